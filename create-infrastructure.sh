#!/usr/bin/env bash
#
# Usage: ./create-infrastructure.sh [option...]
#
# Creates everything that Valro needs in an AWS account, or updates it: the CloudFormation stack of
# template.yaml, with the code of the two zips. It says what changes and changes only that; what AWS
# refuses is rolled back, and the old stack serves on. stderr gets the talk, stdout the API's URL.
# Run it again at any time, also after it was interrupted.
#
#   --dry-run            say what would change, and change nothing
#   --verify             only ask the deployed API for an answer
#   --no-verify          do not ask it after a change
#   --aws-region REGION  or --region (default: AWS_REGION, AWS_DEFAULT_REGION, the CLI's own, us-east-1)
#   --tags LIST          tags for everything in the stack, such as team=homes,stage=prod
#   --help               print this
#
# Every option is an environment variable too: --worker-memory-size is WORKER_MEMORY_SIZE. What is
# not given keeps its value; --worker-concurrency= empties it. Needs bash 4.4, the AWS CLI (2.16 or
# 1.33, or later) with credentials, and Python 3.11. Exit status: 0 done; 1 something failed, and the
# last lines say what to do; 2 wrong options. The other options are the template's parameters:

set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly HERE TEMPLATE="$HERE/template.yaml"

FLAGS=(dry-run verify no-verify)
SETTINGS=(aws-region tags)
declare -A PARAMETERS=() # option -> parameter of the template
declare -A SWITCHES=()   # options that mean true when they stand alone
declare -A GIVEN=()      # parameter -> the value that this run was given
declare -A STACK=()      # what is deployed: StackStatus, StackId, parameters and outputs
declare -A CHANGING=()   # the logical ids that a change set names
CHANGE_SET='' FAILURES=''

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

# One line for each parameter: option, name, whether it is a switch, description. Groups have no name.
list_parameters() {
  awk -v OFS='\t' '/^Rules:/ {exit} /^Parameters:/ {found = 1} !found {next}
    /^  # ---- / {print substr($0, 10), "", "", ""}
    match($0, /^  [A-Z][A-Za-z]*: [{]/) {name = substr($0, 3, RLENGTH - 5); switch_ = /Default: "false"/}
    match($0, / Description: ".*"/) {
      option = name; gsub(/[A-Z]/, "-&", option)
      print tolower(substr(option, 2)), name, switch_, substr($0, RSTART + 15, RLENGTH - 16)}' "$TEMPLATE"
}

usage() {
  local option name switch text
  sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
  while IFS=$'\t' read -r option name switch text; do
    if [[ -n "$name" ]]; then printf '  --%s: %s\n' "$option" "$text"; else printf '%s\n' "$option"; fi
  done < <(list_parameters)
}

variable_of() {
  local name="${1//-/_}"
  printf '%s' "${name^^}"
}

# An empty variable is one that is not given; an empty option is an empty value.
read_environment() {
  local option name switch variable
  while IFS=$'\t' read -r option name switch _; do
    [[ -n "$name" ]] || continue
    PARAMETERS["$option"]="$name"
    [[ "$switch" == 0 ]] || SWITCHES["$option"]=true
    variable="$(variable_of "$option")"
    [[ -z "${!variable:-}" ]] || GIVEN["$name"]="${!variable}"
  done < <(list_parameters)
  for option in "${FLAGS[@]}"; do SWITCHES["$option"]=true; done
}

parse_options() {
  local option value
  while (($#)); do
    option="${1%%=*}" option="${option#--}"
    [[ "$option" != region ]] || option=aws-region
    if [[ "$1" == --help || "$1" == -h ]]; then
      usage
      exit 0
    elif [[ "$1" != --?* ]]; then
      wrong_usage "$1 is no option"
    elif [[ "$1" == *=* ]]; then
      value="${1#*=}"
    elif [[ -n "${SWITCHES[$option]:-}" && "${2:---}" == --* ]]; then
      value=true
    else
      (($# > 1)) || wrong_usage "$1 needs a value"
      value="$2"
      shift
    fi
    [[ "$value" != *[[:cntrl:]]* ]] || wrong_usage "--$option has a line break or the like in it"
    if [[ -n "${PARAMETERS[$option]:-}" ]]; then
      GIVEN["${PARAMETERS[$option]}"]="$value"
    elif [[ " ${FLAGS[*]} ${SETTINGS[*]} " == *" $option "* ]]; then
      printf -v "$(variable_of "$option")" '%s' "$value"
    else
      wrong_usage "there is no option --$option"
    fi
    shift
  done
}

set_defaults() {
  ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) \
    || die "this is bash $BASH_VERSION; 4.4 or later is needed (on a Mac: brew install bash)."
  command -v aws >/dev/null || die 'the AWS CLI is missing: https://aws.amazon.com/cli/'
  : "${DRY_RUN:=}" "${VERIFY:=}" "${NO_VERIFY:=}" "${TAGS:=}"
  : "${AWS_REGION:=${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}" "${AWS_REGION:=us-east-1}"
  PREFIX="${GIVEN[NamePrefix]:-valro}"
  STACK_NAME="$PREFIX-backend"
  WORK="$(mktemp -d "${TMPDIR:-/tmp}/valro.XXXXXX")"
  trap 'rm -rf "$WORK"' EXIT
  trap 'say "error: interrupted. AWS ends by itself what it has begun. Run this again: it goes on."; exit 130' INT TERM HUP
}

# ---- talking to AWS -----------------------------------------------------------------------------

# Text, as rows of words between tabs.
aws_cli() {
  AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off aws --region "$AWS_REGION" --output text "$@"
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

# follow EVENT: says what comes after this event, until the stack's operation is over, as OUTCOME.
# Without an event it waits for an operation that somebody else has begun, if there is one. (AWS's own
# waiters are silent for half a minute at a time.)
follow() {
  local seen="$1" number place id name status reason verb busy='' start="$SECONDS"
  OUTCOME='' FAILURES=''
  while [[ "$OUTCOME" != *_COMPLETE && "$OUTCOME" != *_FAILED ]]; do
    read_events
    for ((number = 0; number < ${#EVENTS[@]}; number++)); do
      IFS=$'\t' read -r id name status reason <<<"${EVENTS[number]}"
      [[ "$id" != "$seen" ]] || break
      if [[ -z "$seen" && "$name" == "$STACK_NAME" ]]; then
        OUTCOME="$status"
        number=0
        break
      fi
    done
    for ((place = number - 1; place >= 0; place--)); do
      IFS=$'\t' read -r id name status reason <<<"${EVENTS[place]}"
      case "$name $status" in
        "$STACK_NAME "*) OUTCOME="$status" ;;
        *_IN_PROGRESS) busy="$name" ;;
        *_FAILED) report_failure "$name" "$reason" ;;
        *_SKIPPED) say "  $name: kept" ;;
        *)
          verb="${status%_COMPLETE}" verb="${verb,,}"
          ((${#CHANGING[@]} > 0)) && [[ -z "${CHANGING[$name]:-}" ]] || say "  $name: ${verb%e}ed"
          ;;
      esac
    done
    ((number > 0)) || say "  … ${busy:-$STACK_NAME}, $((SECONDS - start)) s"
    seen="${EVENTS[0]%%$'\t'*}"
    sleep 0.3
  done
}

# The newest events, newest first.
read_events() {
  look events 'does not exist' cloudformation describe-stack-events --no-paginate --query \
    'StackEvents[].[EventId, LogicalResourceId, ResourceStatus, ResourceStatusReason]'
  mapfile -t EVENTS <"$WORK/events"
}

# What was merely cancelled because something else failed explains nothing.
report_failure() {
  say "  $1: failed: $2"
  [[ "$2" == *[Cc]ancelled* ]] || FAILURES+="$1: $2"$'\n'
}

# ---- what is there ------------------------------------------------------------------------------

# The ARN is asked for where somebody can answer, with the deployed one as the default.
ask_for_agent_arn() {
  local deployed="${STACK[AgentRuntimeArn]:-}" answer=''
  [[ -z "${GIVEN[AgentRuntimeArn]:-}" ]] || return 0
  if [[ -t 0 ]]; then
    read -r -p "AgentCore Runtime ARN${deployed:+ [$deployed]}: " answer
    [[ -z "$answer" ]] || GIVEN[AgentRuntimeArn]="$answer"
  fi
  [[ -n "$answer$deployed" ]] \
    || wrong_usage 'which agent? Give --agent-runtime-arn or set AGENT_RUNTIME_ARN. Nothing was created.'
}

# Waits for a run that is under way or was interrupted, and removes what a failed first one left.
settle_stack() {
  if [[ "${STACK[StackStatus]:-}" == *_IN_PROGRESS && "${STACK[StackStatus]}" != REVIEW_IN_PROGRESS ]]; then
    say "Another run is at work on $STACK_NAME (${STACK[StackStatus]}): waiting for its end."
    follow ''
    look_at_stack
  fi
  case "${STACK[StackStatus]:-}" in
    ROLLBACK_* | IMPORT_ROLLBACK_COMPLETE | DELETE_FAILED)
      say "$STACK_NAME is what a failed run left (${STACK[StackStatus]}): removing it first"
      [[ "$DRY_RUN" != true ]] || return 0
      remove_stack
      ;;
    UPDATE_ROLLBACK_FAILED)
      die "AWS could not take the last change back. Mend what its events name, then:" \
        "aws cloudformation continue-update-rollback --stack-name $STACK_NAME"
      ;;
    REVIEW_IN_PROGRESS) STACK=([StackStatus]=REVIEW_IN_PROGRESS) ;;
    *) ;;
  esac
}

remove_stack() {
  read_events
  cloudformation delete-stack
  follow "${EVENTS[0]%%$'\t'*}"
  [[ "$OUTCOME" == DELETE_COMPLETE ]] || die "$STACK_NAME could not be removed: $FAILURES"
  STACK=()
}

# ---- the zips -----------------------------------------------------------------------------------

# Builds the zips if one is missing or older than what it is made of, and names them by their content.
prepare_zips() {
  local zip name hash newer
  for zip in valro-api-lambda.zip valro-worker-lambda.zip; do
    newer="$(find "$HERE"/*.py "$HERE/bundle" "$HERE/requirements.txt" "$HERE/deploy.sh" \
      -newer "$HERE/$zip" -not -type d -not -path '*/__pycache__/*' 2>/dev/null || true)"
    if [[ ! -e "$HERE/$zip" || -n "$newer" ]]; then
      say "$zip is missing or older than its sources: running deploy.sh"
      "$HERE/deploy.sh" >&2 || die 'deploy.sh failed, so there is nothing to deploy.'
    fi
  done
  for name in Api Worker; do
    zip="$HERE/valro-${name,,}-lambda.zip"
    hash="$(sha256sum "$zip" 2>/dev/null || shasum -a 256 "$zip")"
    GIVEN["${name}CodeKey"]="$PREFIX/${hash%% *}.zip"
  done
  # The zip's comment is the runtime that its byte code is for.
  : "${GIVEN[LambdaRuntime]:="$(tail -c 10 "$zip")"}"
  ACCOUNT="$(cut -d : -f 5 <<<"${STACK[StackId]:-}")"
  if [[ -z "$ACCOUNT" ]]; then
    look account '(nothing)' aws_cli sts get-caller-identity --query Account
    ACCOUNT="$(<"$WORK/account")"
  fi
  # One bucket for all stacks of an account and region, whose names make it hard to squat. The old
  # zips stay in it, since AWS needs them to take a change back; they cost cents a year.
  : "${GIVEN[CodeBucket]:=${STACK[CodeBucket]:-valro-zips-$ACCOUNT-$AWS_REGION}}"
}

upload_zips() {
  local name bucket="${GIVEN[CodeBucket]}" error
  local -a owner=(--bucket "$bucket" --expected-bucket-owner "$ACCOUNT") place=()
  if ! error="$(aws_cli s3api head-bucket "${owner[@]}" 2>&1)"; then
    [[ "$error" == *'(404)'* ]] || die "the bucket $bucket cannot be used; is it another account's?" "$error"
    [[ "$AWS_REGION" == us-east-1 ]] \
      || place=(--create-bucket-configuration "LocationConstraint=$AWS_REGION")
    aws_cli s3api create-bucket --bucket "$bucket" ${place[@]+"${place[@]}"} >/dev/null
    aws_cli s3api put-public-access-block "${owner[@]}" --public-access-block-configuration \
      BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
    aws_cli s3api put-bucket-encryption "${owner[@]}" --server-side-encryption-configuration \
      'Rules=[{ApplyServerSideEncryptionByDefault={SSEAlgorithm=AES256}}]'
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

# The parameters as JSON: what was given, and for the rest what is deployed, or else the default.
list_values() {
  local name value separator='['
  for name in "${PARAMETERS[@]}"; do
    if [[ -v GIVEN["$name"] ]]; then
      value="${GIVEN[$name]//\\/\\\\}"
      printf '%s{"ParameterKey": "%s", "ParameterValue": "%s"}' "$separator" "$name" "${value//\"/\\\"}"
    elif [[ -v STACK["$name"] ]]; then
      printf '%s{"ParameterKey": "%s", "UsePreviousValue": true}' "$separator" "$name"
    else
      continue
    fi
    separator=', '
  done
  printf ']'
}

# make_change_set TYPE ARG...: makes a change set and says what is in it. 1 if nothing changes.
make_change_set() {
  local status=CREATE_PENDING reason=''
  if ! CHANGE_SET="$(cloudformation create-change-set --change-set-name "valro-$(date +%s)-$$" \
    --change-set-type "$@" --query Id 2>"$WORK/refused")"; then
    reason="$(<"$WORK/refused")"
    [[ "$reason" != *'(ValidationError)'* || "$reason" == *_IN_PROGRESS* ]] || wrong_usage "${reason#*operation: }"
    die "$reason"
  fi
  while [[ "$status" == CREATE_PENDING || "$status" == CREATE_IN_PROGRESS ]]; do
    look changes '(nothing)' cloudformation describe-change-set --change-set-name "$CHANGE_SET" \
      --include-property-values --query "[[['status', Status, StatusReason]], Changes[].ResourceChange.[
      [['change', LogicalResourceId, Action, Replacement]], Details[].Target.['detail',
      not_null(Path, Name, Attribute), not_null(BeforeValue, 'none'), not_null(AfterValue, 'none')]][][]][]"
    read -r _ status reason <"$WORK/changes"
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
  local kind name action is line='' detail
  for name in "${!GIVEN[@]}"; do
    if [[ -v STACK["$name"] && "${STACK[$name]}" != "${GIVEN[$name]}" ]]; then
      say "  $name ${STACK[$name]:-none} -> ${GIVEN[$name]:-none}"
    fi
  done
  CHANGING=()
  while IFS=$'\t' read -r kind name action is; do
    case "$kind" in
      change)
        [[ -z "$line" ]] || say "$line"
        CHANGING["$name"]=true
        line="  $action $name"
        [[ "$is" != True ]] || line+=', which makes a new one'
        ;;
      detail)
        detail="${name##*/}"
        [[ "$action" == "$is" ]] || detail+=" ${action:0:60} -> ${is:0:60}"
        [[ "$line:" == *" $detail"[,:]* ]] || line+=", $detail"
        ;;
      *) ;;
    esac
  done <"$WORK/changes"
  say "$line"
}

execute_change_set() {
  read_events
  cloudformation execute-change-set --change-set-name "$CHANGE_SET" \
    || die "somebody else has changed $STACK_NAME meanwhile. Run this again."
  follow "${EVENTS[0]%%$'\t'*}"
  case "$OUTCOME" in
    CREATE_COMPLETE | UPDATE_COMPLETE | IMPORT_COMPLETE) look_at_stack ;;
    UPDATE_ROLLBACK_COMPLETE) die "AWS took the change back, and what was there serves on. Why:"$'\n'"$FAILURES" ;;
    *) die "$STACK_NAME is $OUTCOME. Why:"$'\n'"$FAILURES" ;;
  esac
}

# ---- a table that is there already --------------------------------------------------------------

# A table of ours that no stack has (made by hand, or kept when its stack went) is imported as it is,
# since CloudFormation compares templates and not tables. The update that follows gives it the rest.
import_table() {
  local table="${GIVEN[DynamodbTableName]:-$PREFIX-tasks}" ttl
  [[ -z "${STACK[StackId]:-}" ]] || return 0
  look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$table" \
    --output json --query "Table.{KeySchema: KeySchema, AttributeDefinitions: AttributeDefinitions,
    BillingMode: BillingModeSummary.BillingMode || 'PROVISIONED', GlobalSecondaryIndexes:
    GlobalSecondaryIndexes[].{IndexName: IndexName, KeySchema: KeySchema, Projection: Projection},
    TableName: TableName}" || return 0
  [[ "$(tr -d ' \n' <"$WORK/table")" == *'"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]'* ]] \
    || die "the table $table has other keys than id, so it is not Valro's. Choose another --dynamodb-table-name."
  say "table $table: is there, and is taken in with its tasks"
  if [[ "$DRY_RUN" == true ]]; then
    say 'Everything else would be made beside it. This was a dry run: nothing was changed.'
    exit 0
  fi
  look ttl '(nothing)' aws_cli dynamodb describe-time-to-live --table-name "$table" --output json --query \
    "TimeToLiveDescription.{AttributeName: AttributeName, Enabled: TimeToLiveStatus == 'ENABLED'}"
  [[ "$(<"$WORK/ttl")" != *true* ]] || ttl="\"TimeToLiveSpecification\": $(<"$WORK/ttl"),"
  cat >"$WORK/import.json" <<END
{"Resources": {"Table": {"Type": "AWS::DynamoDB::Table", "DeletionPolicy": "RetainExceptOnCreate",
  "UpdateReplacePolicy": "Retain", "Properties": {${ttl:-}
  $(grep -v ': null,$' "$WORK/table" | tail -n +2)}}}
END
  make_change_set IMPORT --template-body "file://$WORK/import.json" --resources-to-import \
    "ResourceType=AWS::DynamoDB::Table,LogicalResourceId=Table,ResourceIdentifier={TableName=$table}"
  execute_change_set
}

# Tasks of before the index have no owner, and would be missing in the list.
give_tasks_an_owner() {
  local table="${GIVEN[DynamodbTableName]:-$PREFIX-tasks}" failed=0
  [[ "${STACK[StackStatus]:-}" == IMPORT_COMPLETE ]] || return 0
  while look owners '(nothing)' aws_cli dynamodb scan --table-name "$table" --output json --max-items 100 \
    --filter-expression 'attribute_not_exists(#o) AND attribute_exists(created_at)' \
    --expression-attribute-names '{"#o": "owner"}' --query "Items[].{Update: {TableName: '$table',
    Key: {id: id}, UpdateExpression: 'SET #o = :public', ExpressionAttributeNames: {\"#o\": 'owner'},
    ConditionExpression: 'attribute_exists(id) AND attribute_not_exists(#o)',
    ExpressionAttributeValues: {\":public\": {S: 'public'}}}}" && [[ "$(<"$WORK/owners")" == *Update* ]]; do
    say 'giving tasks of before the index their owner, public'
    # Whoever writes one of them at this moment cancels them all.
    aws_cli dynamodb transact-write-items --transact-items "file://$WORK/owners" \
      || ((++failed < 5)) || die 'some tasks could not be given an owner. Run this again.'
  done
}

# ---- the check ----------------------------------------------------------------------------------

# Asks the API a few times, since a new one takes some seconds to be known everywhere.
verify_api() {
  [[ -n "${STACK[ApiUrl]:-}" ]] || die "there is no stack $STACK_NAME in $AWS_REGION that has an API."
  python3 -I - "${STACK[ApiUrl]}/tasks?limit=1" >&2 <<'END' || die "aws logs tail /aws/lambda/${STACK[ApiFunctionName]:-$PREFIX-backend} --since 10m may say why."
import http.client, sys, time, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
# Names under localhost are this machine, but not every resolver knows that.
host = "127.0.0.1" if url.hostname.endswith(".localhost") else url.hostname
for pause in 1, 2, 3, 4, 5, 0:
    try:
        connection = kind(host, url.port, timeout=35)
        connection.request("GET", f"{url.path}?{url.query}", headers={"Host": url.netloc})
        answer = connection.getresponse()
        status, said = answer.status, answer.read(300).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        status, said = 0, str(error)
    if status == 401 or (status == 200 and said.startswith("[")):
        sys.exit(print("The API answers" + (", and asks for a token." if status == 401 else ".")))
    time.sleep(pause)
sys.exit(f"error: {sys.argv[1]} got {status or 'no answer'}: {said}")
END
}

finish() {
  say "${STACK[Callers]:-}"
  say "Try it: curl -X POST ${STACK[ApiUrl]}/tasks -H 'content-type: application/json' \\"
  say "  -d '{\"description\": \"Find me a landscaper in Charlotte under \$300\"}'"
  printf '%s\n' "${STACK[ApiUrl]}"
}

main() {
  local key value
  local -a tags=()
  read_environment
  parse_options "$@"
  set_defaults
  look_at_stack
  if [[ "$VERIFY" == true ]]; then
    verify_api
    printf '%s\n' "${STACK[ApiUrl]}"
    return
  fi
  ask_for_agent_arn
  settle_stack
  prepare_zips
  import_table
  give_tasks_an_owner
  while IFS='=' read -r key value; do
    [[ -z "$key" ]] || tags+=("Key=$key,Value=$value")
  done <<<"${TAGS//,/$'\n'}"
  list_values >"$WORK/values.json"
  if ! make_change_set "$([[ -n "${STACK[StackId]:-}" ]] && printf UPDATE || printf CREATE)" \
    --template-body "file://$TEMPLATE" --parameters "file://$WORK/values.json" \
    --capabilities CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND ${tags[@]+--tags "${tags[@]}"}; then
    say 'Nothing had to be changed.'
  elif [[ "$DRY_RUN" == true ]]; then
    cloudformation delete-change-set --change-set-name "$CHANGE_SET"
    [[ -n "${STACK[StackId]:-}" ]] || cloudformation delete-stack
    say 'This was a dry run: nothing was changed.'
    return
  else
    upload_zips
    execute_change_set
    [[ "$NO_VERIFY" == true ]] || verify_api
  fi
  finish
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  main "$@"
fi
