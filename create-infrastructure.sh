#!/usr/bin/env bash
#
# Usage: ./create-infrastructure.sh [option...]
#
# Creates everything that Valro needs in an AWS account, or updates it: the CloudFormation stack of
# template.yaml, with the code of the two zips. It says what changes and changes only that; what AWS
# refuses is rolled back, and the old stack serves on. stderr gets the talk, stdout the API's URL.
# Run it again at any time, also after it was interrupted.
#
# Every option is an environment variable too: --worker-memory-size is WORKER_MEMORY_SIZE. What is
# not given keeps its value; --worker-concurrency= empties it. Needs bash 4.4, curl, Python 3.11 and
# the AWS CLI (2.16 or 1.33, or later) with credentials. Exit status: 0 done; 1 something failed, and
# the last lines say what to do; 2 wrong options.

set -euo pipefail

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) \
  || { echo "error: bash 4.4 or later is needed (on a Mac: brew install bash)" >&2 && exit 1; }

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly HERE TEMPLATE="$HERE/template.yaml"

declare -A NAMES=()    # option -> its name, which for a parameter is the template's
declare -A SWITCHES=() # options that mean true when they stand alone
declare -A GIVEN=()    # name -> the value that this run was given
declare -A STACK=()    # what is deployed: StackStatus, StackId, parameters and outputs

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

wrong_usage() {
  say "error: $*"
  say "See ${0##*/} --help."
  exit 2
}

# ---- options ------------------------------------------------------------------------------------

# One line for each option: option, name, whether it is a switch, text. Headings have only the first.
list_options() {
  cat <<'END'
This script
dry-run|DRY_RUN|1|say what would change, and change nothing
no-verify|NO_VERIFY|1|do not ask the API for an answer at the end
aws-region|AWS_REGION|0|or --region; empty is AWS_REGION, AWS_DEFAULT_REGION, the CLI's own or us-east-1
tags|TAGS|0|tags for everything in the stack, such as team=homes,stage=prod
END
  list_parameters
}

# The same for the template's parameters.
list_parameters() {
  awk -v OFS='|' '/^Rules:/ {exit} /^Parameters:/ {found = 1} !found {next}
    /^  # ---- / {print substr($0, 10)}
    match($0, /^  [A-Z][A-Za-z]*: [{]/) {name = substr($0, 3, RLENGTH - 5); first = ""; switch_ = /"false"/}
    match($0, / Default: "?[^",}]+/) {first = substr($0, RSTART + 10, RLENGTH - 10); sub(/"/, "", first)}
    match($0, / Description: ".*"/) {
      option = name; gsub(/[A-Z]/, "-&", option)
      print tolower(substr(option, 2)), name, switch_, substr($0, RSTART + 15, RLENGTH - 16) \
        (first == "" ? "" : " (default: " first ")")}' "$TEMPLATE"
}

usage() {
  sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
  list_options | awk -F '|' 'NF == 1 {print "\n" $1} NF > 1 {print "  --" $1 ": " $4}'
}

# An empty variable is one that is not given; an empty option is an empty value.
read_environment() {
  local option name switch variable
  while IFS='|' read -r option name switch _; do
    [[ -n "$name" ]] || continue
    NAMES["$option"]="$name"
    [[ "$switch" != 1 ]] || SWITCHES["$option"]=true
    variable="${option^^}" variable="${variable//-/_}"
    [[ -z "${!variable:-}" ]] || GIVEN["$name"]="${!variable}"
  done < <(list_options)
}

parse_options() {
  local option value
  while (($#)); do
    option="${1%%=*}" option="${option#--}" value="${1#*=}"
    [[ "$option" != region ]] || option=aws-region
    if [[ "$1" == --help || "$1" == -h ]]; then
      usage
      exit 0
    fi
    [[ "$1" == --?* && -n "${NAMES[$option]:-}" ]] || wrong_usage "there is no option $1"
    if [[ "$1" != *=* && -n "${SWITCHES[$option]:-}" && "${2:---}" == --* ]]; then
      value=true
    elif [[ "$1" != *=* ]]; then
      (($# > 1)) || wrong_usage "$1 needs a value"
      value="$2"
      shift
    fi
    [[ "$value" != *[[:cntrl:]]* ]] || wrong_usage "--$option has a line break or the like in it"
    GIVEN["${NAMES[$option]}"]="$value"
    shift
  done
}

is_on() { [[ "${GIVEN[$1]:-}" == true ]]; }
is_deployed() { [[ "${STACK[$1]-}" == "${GIVEN[$1]}" ]]; }

begin() {
  read_environment
  parse_options "$@"
  command -v curl >/dev/null || die 'curl is missing.'
  command -v aws >/dev/null || die 'the AWS CLI is missing: https://aws.amazon.com/cli/'
  REGION="${GIVEN[AWS_REGION]:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}"
  : "${REGION:=us-east-1}"
  PREFIX="${GIVEN[NamePrefix]:-valro}"
  STACK_NAME="$PREFIX-backend"
  WORK="$(mktemp -d "${TMPDIR:-/tmp}/valro.XXXXXX")"
  # The AWS CLI's own statuses are not ours.
  trap 'status=$?; rm -rf "$WORK"; ((status < 3 || status == 130)) || exit 1' EXIT
  trap 'say "error: interrupted. AWS ends what it has begun. Run this again: it goes on."; exit 130' INT TERM HUP
  look_at_stack
  ACCOUNT="$(cut -d : -f 5 <<<"${STACK[StackId]:-}")"
  [[ -n "$ACCOUNT" ]] || ACCOUNT="$(aws_cli sts get-caller-identity --query Account)" \
    || die 'AWS does not say whose credentials these are.'
  TABLE="${GIVEN[DynamodbTableName]:-${STACK[DynamodbTableName]:-$PREFIX-tasks}}"
}

# ---- talking to AWS -----------------------------------------------------------------------------

# Text, as rows of words between tabs.
aws_cli() {
  AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off aws --region "$REGION" --output text "$@"
}

cloudformation() {
  local command="$1"
  shift
  aws_cli cloudformation "$command" --stack-name "${STACK[StackId]:-$STACK_NAME}" "$@"
}

# look FILE WORD COMMAND...: keeps AWS's answer in a file. An error that has the word in it means
# that there is nothing, and is a 1; every other error stops the run.
look() {
  local file="$WORK/$1" nothing="$2"
  shift 2
  if "$@" >"$file" 2>"$file.error"; then return 0; fi
  [[ "$(<"$file.error")" == *"$nothing"* ]] && return 1
  cat "$file.error" >&2
  die "AWS refused a question: $2 $3. Are the credentials right? aws sts get-caller-identity"
}

look_at_stack() {
  local key value
  STACK=()
  look stack 'does not exist' cloudformation describe-stacks --query "Stacks[0].[
    [['StackStatus', StackStatus], ['StackId', StackId]], Parameters[].[ParameterKey, ParameterValue],
    Outputs[].[OutputKey, OutputValue]][]" || return 0
  while IFS=$'\t' read -r key value; do
    [[ "$key" == None ]] || STACK["$key"]="$value"
  done <"$WORK/stack"
}

# wait_a_moment WHAT SINCE: AWS works, and nobody is to think that nothing does.
wait_a_moment() {
  say "  … $1, $((SECONDS - $2)) s"
  sleep 0.5
}

# act COMMAND...: has CloudFormation do something with the stack and tells how far it is until it is
# over, as OUTCOME, with the FAILURES. (AWS's own waiters are silent for half a minute at a time.)
act() {
  local name='' token start="$SECONDS"
  token="valro-$(date +%s)-$$"
  cloudformation "$@" --client-request-token "$token" \
    || die "is somebody else at work on $STACK_NAME? Run this again."
  while true; do
    # The newest come first.
    look events '(nothing)' cloudformation describe-stack-events --no-paginate --query \
      "StackEvents[?ClientRequestToken=='$token'].[LogicalResourceId, ResourceStatus, ResourceStatusReason]"
    read -r name OUTCOME _ <"$WORK/events" || true
    [[ "$name" != "$STACK_NAME" || ! "$OUTCOME" =~ _(COMPLETE|FAILED)$ ]] || break
    wait_a_moment "$name $OUTCOME" "$start"
  done
  # What was merely cancelled because something else failed explains nothing.
  FAILURES="$(awk -F '\t' '$2 ~ /_FAILED$/ && $3 !~ /[Cc]ancelled/ {said = $1 ": " $3 "\n" said}
    END {printf "%s", said}' "$WORK/events")"
}

# ---- what is there ------------------------------------------------------------------------------

# The ARN is asked for where somebody can answer, with the deployed one as the default.
ask_for_agent_arn() {
  local deployed="${STACK[AgentRuntimeArn]:-}" arn="${GIVEN[AgentRuntimeArn]:-}"
  if [[ -z "$arn" && -t 0 ]]; then read -r -p "AgentCore Runtime ARN${deployed:+ [$deployed]}: " arn; fi
  GIVEN[AgentRuntimeArn]="${arn:-$deployed}"
  [[ -n "${GIVEN[AgentRuntimeArn]}" ]] \
    || wrong_usage 'which agent? Give --agent-runtime-arn or set AGENT_RUNTIME_ARN. Nothing was created.'
}

# Waits for a run that is under way or was interrupted, and removes what a failed first one left.
settle_stack() {
  local start="$SECONDS"
  [[ "${STACK[StackStatus]:-}" != REVIEW_IN_PROGRESS ]] || STACK=()
  while [[ "${STACK[StackStatus]:-}" == *_IN_PROGRESS ]]; do
    wait_a_moment "another run is at work on $STACK_NAME (${STACK[StackStatus]})" "$start"
    look_at_stack
  done
  if [[ "${STACK[StackStatus]:-}" =~ ^(ROLLBACK_.*|IMPORT_ROLLBACK_COMPLETE|DELETE_FAILED)$ ]]; then
    say "$STACK_NAME is what a failed run left (${STACK[StackStatus]}): removing it first"
    is_on DRY_RUN || remove_stack
  fi
}

remove_stack() {
  act delete-stack
  [[ "$OUTCOME" == DELETE_COMPLETE ]] || die "$STACK_NAME could not be removed. Why:"$'\n'"$FAILURES"
  STACK=()
}

# ---- the zips -----------------------------------------------------------------------------------

# Builds the zips if one is missing or older than what it is made of, and names them by their content.
prepare_zips() {
  local zip name hash newer
  for name in Api Worker; do
    zip="$HERE/valro-${name,,}-lambda.zip"
    newer="$(find "$HERE"/*.py "$HERE/bundle" "$HERE/requirements.txt" "$HERE/deploy.sh" \
      -newer "$zip" -not -type d -not -path '*/__pycache__/*' 2>/dev/null || true)"
    if [[ ! -e "$zip" || -n "$newer" ]]; then
      say "${zip##*/} is missing or older than its sources: running deploy.sh"
      "$HERE/deploy.sh" >&2 || die 'deploy.sh failed, so there is nothing to deploy.'
    fi
    hash="$(sha256sum "$zip" 2>/dev/null || shasum -a 256 "$zip")"
    GIVEN["${name}CodeKey"]="$PREFIX/${hash%% *}.zip"
  done
  # The zip's comment is the runtime that its byte code is for.
  : "${GIVEN[LambdaRuntime]:="$(tail -c 10 "$zip")"}"
  # One bucket for all stacks of an account and region, whose names make it hard to squat. Every new
  # bucket is private and encrypted, by AWS itself. The old zips stay in it, since AWS needs them to
  # take a change back; they cost cents a year.
  : "${GIVEN[CodeBucket]:=${STACK[CodeBucket]:-valro-zips-$ACCOUNT-$REGION}}"
}

upload_zips() {
  local name bucket="${GIVEN[CodeBucket]}" error
  local -a owner=(--bucket "$bucket" --expected-bucket-owner "$ACCOUNT") place=()
  if ! error="$(aws_cli s3api head-bucket "${owner[@]}" 2>&1)"; then
    [[ "$error" == *'(404)'* ]] || die "the bucket $bucket cannot be used; is it another account's?" "$error"
    [[ "$REGION" == us-east-1 ]] || place=(--create-bucket-configuration "LocationConstraint=$REGION")
    aws_cli s3api create-bucket --bucket "$bucket" ${place[@]+"${place[@]}"} >/dev/null
    say "bucket $bucket: created"
  fi
  for name in Api Worker; do
    look "$name" '(404)' aws_cli s3api head-object "${owner[@]}" --key "${GIVEN[${name}CodeKey]}" && continue
    say "uploading valro-${name,,}-lambda.zip"
    aws_cli s3api put-object "${owner[@]}" --key "${GIVEN[${name}CodeKey]}" \
      --body "$HERE/valro-${name,,}-lambda.zip" >/dev/null
  done
}

# ---- a change -----------------------------------------------------------------------------------

# make_change_set TYPE ARG...: makes a change set and says what is in it. 1 if nothing changes.
make_change_set() {
  local status=CREATE_PENDING reason='' start="$SECONDS"
  if ! CHANGE_SET="$(cloudformation create-change-set --change-set-name "valro-$(date +%s)-$$" \
    --change-set-type "$@" --query Id 2>"$WORK/refused")"; then
    reason="$(<"$WORK/refused")"
    [[ "$reason" != *'(ValidationError)'* || "$reason" == *_IN_PROGRESS* ]] \
      || wrong_usage "${reason#*operation: }"
    die "$reason"
  fi
  while true; do
    look changes '(nothing)' cloudformation describe-change-set --change-set-name "$CHANGE_SET" \
      --include-property-values --query "[[['status', Status, StatusReason]], Changes[].ResourceChange.[
      [['change', LogicalResourceId, Action, Replacement]], Details[].Target.['detail',
      not_null(Path, Name, Attribute), not_null(BeforeValue, 'none'), not_null(AfterValue, 'none')]][][]][]"
    read -r _ status reason <"$WORK/changes"
    [[ "$status" == CREATE_PENDING || "$status" == CREATE_IN_PROGRESS ]] || break
    wait_a_moment 'AWS looks at what changes' "$start"
  done
  if [[ "$status" == FAILED ]]; then
    cloudformation delete-change-set --change-set-name "$CHANGE_SET"
    [[ "$reason" != *"didn't contain changes"* && "$reason" != *'No updates are to be'* ]] || return 1
    die "AWS refuses this change: $reason"
  fi
  say_changes
}

# One line for each thing that changes, and what about it. (AWS names a cause twice, as a value and as
# where it comes from.)
say_changes() {
  local name
  for name in "${!GIVEN[@]}"; do
    [[ ! -v STACK["$name"] ]] || is_deployed "$name" \
      || say "  $name ${STACK[$name]:-none} -> ${GIVEN[$name]:-none}"
  done
  awk -F '\t' '{sub(/.*\//, "", $2)}
    $1 == "change" {delete said; printf end "  %s %s", $3, $2; end = "\n"; if ($4 == "True") printf ", anew"}
    $1 == "detail" && !said[$2]++ {printf ", %s", $2; if ($3 != $4) printf " %.60s -> %.60s", $3, $4}
    END {print ""}' "$WORK/changes" >&2
}

execute_change_set() {
  act execute-change-set --change-set-name "$CHANGE_SET"
  [[ "$OUTCOME" == *_COMPLETE && "$OUTCOME" != *ROLLBACK* ]] \
    || die "AWS took the change back ($OUTCOME); what was there before serves on. Why:"$'\n'"$FAILURES"
  look_at_stack
}

# A table of ours that no stack has (made by hand, or kept when its stack went) is imported as it is,
# since CloudFormation compares templates and not tables. The update that follows gives it the rest.
import_table() {
  local ttl capacity="ProvisionedThroughput.[ReadCapacityUnits > \`0\` &&
    {ReadCapacityUnits: ReadCapacityUnits, WriteCapacityUnits: WriteCapacityUnits}][0]"
  [[ -z "${STACK[StackId]:-}" ]] || return 0
  look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$TABLE" \
    --output json --query "Table.{KeySchema: KeySchema, AttributeDefinitions: AttributeDefinitions,
    BillingMode: BillingModeSummary.BillingMode || 'PROVISIONED', ProvisionedThroughput: $capacity,
    GlobalSecondaryIndexes: GlobalSecondaryIndexes[].{ProvisionedThroughput: $capacity,
    IndexName: IndexName, KeySchema: KeySchema, Projection: Projection}, TableName: TableName}" || return 0
  [[ "$(tr -d ' \n' <"$WORK/table")" == *'"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]'* ]] \
    || die "the table $TABLE has other keys than id: it is not Valro's. Give another --dynamodb-table-name."
  say "table $TABLE: is there, and is taken in with its tasks"
  say '  Those of before 1.0 get an owner by hand, to be in lists: docs/operators.md, Upgrading'
  if is_on DRY_RUN; then
    say 'Everything else would be made beside it. This was a dry run: nothing was changed.'
    exit 0
  fi
  look ttl '(nothing)' aws_cli dynamodb describe-time-to-live --table-name "$TABLE" --output json --query \
    "TimeToLiveDescription.{AttributeName: AttributeName, Enabled: TimeToLiveStatus == 'ENABLED'}"
  [[ "$(<"$WORK/ttl")" != *true* ]] || ttl="\"TimeToLiveSpecification\": $(<"$WORK/ttl"),"
  cat >"$WORK/import.json" <<END
{"Resources": {"Table": {"Type": "AWS::DynamoDB::Table", "DeletionPolicy": "RetainExceptOnCreate",
  "UpdateReplacePolicy": "Retain", "Properties": {${ttl:-}
  $(grep -Ev ': (null|false),$' "$WORK/table" | tail -n +2)}}}
END
  make_change_set IMPORT --template-body "file://$WORK/import.json" --resources-to-import \
    "ResourceType=AWS::DynamoDB::Table,LogicalResourceId=Table,ResourceIdentifier={TableName=$TABLE}"
  execute_change_set
}

# Asks the API a few times, since a new one takes some seconds to be known everywhere.
verify_api() {
  local status='' tries=8 url="${STACK[ApiUrl]}/tasks?limit=1"
  until [[ "$status" == 401 || ("$status" == 200 && "$(<"$WORK/answer")" == '['*) ]]; do
    ((tries-- > 0)) || die "$url got $status: $(head -c 300 "$WORK/answer" || true)"$'\n'"aws logs tail" \
      "/aws/lambda/$STACK_NAME may say why."
    [[ -z "$status" ]] || { say "  … the API ($status)" && sleep 1; }
    status="$(no_proxy="localhost,${no_proxy:-${NO_PROXY:-}}" curl --silent --show-error --max-time 35 \
      --output "$WORK/answer" --write-out '%{http_code}' "$url")" || true
  done
  say "The API answers${STACK[JwtIssuer]:+, and asks for a token}."
}

main() {
  local name value tag type=UPDATE
  local -a values=() tags=() pairs
  begin "$@"
  settle_stack
  ask_for_agent_arn
  prepare_zips
  import_table
  # What was given, or else what is deployed; the template has the rest.
  while IFS='|' read -r _ name _; do
    [[ -v GIVEN["$name"] || -v STACK["$name"] ]] || continue
    value="${GIVEN[$name]-${STACK[$name]:-}}" value="${value//\\/\\\\}"
    values+=("ParameterKey=$name,ParameterValue=\"${value//\"/\\\"}\"")
  done < <(list_parameters)
  IFS=',' read -r -a pairs <<<"${GIVEN[TAGS]:-}"
  for tag in "${pairs[@]}"; do tags+=("Key=${tag%%=*},Value=\"${tag#*=}\""); done
  [[ -n "${STACK[StackId]:-}" ]] || type=CREATE
  if ! make_change_set "$type" --template-body "file://$TEMPLATE" --parameters "${values[@]}" \
    --capabilities CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND ${tags[@]+--tags "${tags[@]}"}; then
    say 'Nothing had to be changed.'
  elif is_on DRY_RUN; then
    cloudformation delete-change-set --change-set-name "$CHANGE_SET"
    [[ "$type" == UPDATE ]] || cloudformation delete-stack
    say 'This was a dry run: nothing was changed.'
    return
  else
    if ! is_deployed CodeBucket || ! is_deployed ApiCodeKey || ! is_deployed WorkerCodeKey; then upload_zips; fi
    execute_change_set
  fi
  is_on NO_VERIFY || verify_api
  [[ -n "${STACK[JwtIssuer]:-}" ]] || say 'warning: this API is public: anybody who knows its URL can' \
    'start agents and read every task. --jwt-issuer and --jwt-audience make it ask for a token.'
  say "Try it: curl -X POST ${STACK[ApiUrl]}/tasks -H 'content-type: application/json' \\"
  say "  -d '{\"description\": \"Find me a landscaper in Charlotte under \$300\"}'"
  printf '%s\n' "${STACK[ApiUrl]}"
}

[[ "${BASH_SOURCE[0]}" != "$0" ]] || main "$@"
