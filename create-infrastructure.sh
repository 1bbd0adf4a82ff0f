#!/usr/bin/env bash
#
# Usage: ./create-infrastructure.sh [option...]
#
# Creates everything that Valro needs in an AWS account, or updates it: the CloudFormation stack of
# template.yaml, with the code of the two zips. It shows what will change and changes nothing else. If
# AWS rejects a change, it is rolled back and the old stack keeps running. Messages go to stderr, the
# API's URL to stdout. Run it again at any time, even after an interruption.
#
# Every option is an environment variable too: --worker-memory-size is WORKER_MEMORY_SIZE. What is
# not given keeps its value; --worker-concurrency= clears it. Needs bash 4.4, curl, Python 3.11 and
# the AWS CLI (2.16 or 1.33, or later) with credentials. Exit status: 0 done; 1 something failed, and
# the last lines say what to do; 2 wrong options.

set -euo pipefail

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) \
  || { echo "error: bash 4.4 or later is needed (on a Mac: brew install bash)" >&2 && exit 1; }

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly HERE TEMPLATE="$HERE/template.yaml"

declare -A NAMES=()     # option -> its name, which for a parameter is the template's
declare -A SWITCHES=()  # options that are true or false (1), or may have another value too (2)
declare -A GIVEN=()     # name -> the value that this run was given
declare -A STACK=()     # what is deployed: StackStatus, StackId, parameters and outputs
declare -A TABLE_HAS=() # what a table that is adopted already has: ID, INDEX, ON_DEMAND, TTL, …
PARAMETERS=() TAGS=()

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
dry-run|DRY_RUN|1|show what would change, and change nothing
no-verify|NO_VERIFY|1|do not call the API at the end
allow-replacing|ALLOW_REPLACING|0|a table that this change may replace or remove, by its name in the template: Table
aws-region|AWS_REGION|0|or --region; empty is AWS_REGION, AWS_DEFAULT_REGION, the CLI's own or us-east-1
role-arn|ROLE_ARN|0|a role that CloudFormation uses from now on instead of your credentials
tags|TAGS|0|tags for everything in the stack and a new bucket of the zips, such as team=homes,stage=prod
END
  list_parameters
}

# The same for the template's parameters.
list_parameters() {
  awk -v OFS='|' '/^Rules:/ {exit} /^Parameters:/ {found = 1} !found {next}
    /^  # ---- / {print substr($0, 10)}
    match($0, /^  [A-Z][A-Za-z]*: [{]/) {name = substr($0, 3, RLENGTH - 5); first = ""
      switch_ = /"false"/ + (/"false"/ && !/AllowedValues/)}
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

# give OPTION VALUE SOURCE: takes one value, from a variable or from the command line.
give() {
  local value="$2"
  [[ "$value" != *[[:cntrl:]]* ]] || wrong_usage "$3 contains a line break or another control character"
  if [[ "${SWITCHES[$1]}" != 0 ]]; then
    case "${value,,}" in
      true | yes | on | 1 | t | y) value=true ;;
      false | no | off | 0 | f | n) value=false ;;
      *) [[ "${SWITCHES[$1]}" == 2 ]] || wrong_usage "$3 is true or false, not '$value'" ;;
    esac
  fi
  GIVEN["${NAMES[$1]}"]="$value"
}

# An empty variable is one that is not given; an empty option is an empty value.
read_environment() {
  local option name switch variable
  while IFS='|' read -r option name switch _; do
    [[ -n "$name" ]] || continue
    NAMES["$option"]="$name" SWITCHES["$option"]="$switch"
    variable="${option^^}" variable="${variable//-/_}"
    [[ -z "${!variable:-}" ]] || give "$option" "${!variable}" "$variable"
  done < <(list_options)
}

parse_options() {
  local option value
  while (($#)); do
    option="${1%%=*}" option="${option#--}" value="${1#*=}"
    [[ "$option" != region ]] || option=aws-region
    [[ "$1" != --help && "$1" != -h ]] || { usage && exit 0; }
    [[ "$1" == --?* && -n "${NAMES[$option]:-}" ]] || wrong_usage "there is no option $1"
    if [[ "$1" != *=* && "${SWITCHES[$option]}" != 0 && "${2:---}" == --* ]]; then
      value=true
    elif [[ "$1" != *=* ]]; then
      (($# > 1)) || wrong_usage "$1 needs a value"
      value="$2"
      shift
    fi
    give "$option" "$value" "--$option"
    shift
  done
  [[ "${GIVEN[NamePrefix]:-valro}" =~ ^[A-Za-z][A-Za-z0-9-]{0,39}$ ]] \
    || wrong_usage '--name-prefix is up to 40 letters, digits and hyphens, and begins with a letter'
  [[ "${GIVEN[TAGS]:-a=}" =~ ^[^=,]+=[^,]*(,[^=,]+=[^,]*)*$ ]] || wrong_usage '--tags looks like team=homes,stage=prod'
}

is_on() { [[ "${GIVEN[$1]:-}" == true ]]; }
is_deployed() { [[ "${STACK[$1]-}" == "${GIVEN[$1]}" ]]; }

begin() {
  read_environment
  parse_options "$@"
  command -v curl >/dev/null || die 'curl is missing.'
  command -v aws >/dev/null || die 'the AWS CLI is missing: https://aws.amazon.com/cli/'
  REGION="${GIVEN[AWS_REGION]:-${AWS_DEFAULT_REGION:-$(aws configure get region 2>/dev/null || true)}}"
  : "${REGION:=us-east-1}"
  PREFIX="${GIVEN[NamePrefix]:-valro}"
  STACK_NAME="$PREFIX-backend"
  WORK="$(mktemp -d "${TMPDIR:-/tmp}/valro.XXXXXX")"
  # The AWS CLI's own statuses are not ours.
  trap 'status=$?; rm -rf "$WORK"; ((status < 3 || status == 130)) || exit 1' EXIT
  trap 'say "error: interrupted. AWS finishes what it has begun. Run this again to continue."; exit 130' INT TERM HUP
  look_at_stack
  require_own_stack
  ACCOUNT="$(cut -d : -f 5 <<<"${STACK[StackId]:-}")"
  [[ -n "$ACCOUNT" ]] || look account '(nothing)' aws_cli sts get-caller-identity --query Account
  : "${ACCOUNT:="$(<"$WORK/account")"}"
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

command_for() { printf 'aws cloudformation %s --region %s --stack-name %s' "$1" "$REGION" "$STACK_NAME"; }

# look FILE WORD COMMAND...: keeps AWS's answer in a file. An error that has the word in it means
# that there is nothing, and is a 1; every other error stops the run.
look() {
  local file="$WORK/$1" nothing="$2"
  shift 2
  if "$@" >"$file" 2>"$file.error"; then return 0; fi
  [[ "$(<"$file.error")" == *"$nothing"* ]] && return 1
  die_of_aws "$(<"$file.error")"
}

# die_of_aws WORDS: stops with AWS's own words, and with what to do where they leave that open.
die_of_aws() {
  local hint=''
  case "$1" in
    *'config profile'*) hint='To list your profiles: aws configure list-profiles' ;;
    *AccessDenied* | *'not authorized'*) hint='Are these the right credentials? aws sts get-caller-identity' ;;
    *endpoint* | *'supported format'*) hint="Is $REGION the name of a region, and is the network up?" ;;
    *oken* | *redentials* | *SSO* | *Signature*) hint="Are the credentials right, and is $REGION enabled?" ;;
    *TerminationProtection*) hint="To allow it: $(command_for update-termination-protection) --no-enable-termination-protection" ;;
    *_IN_PROGRESS*) hint="Somebody else is working on $STACK_NAME. Run this again later." ;;
    *) ;;
  esac
  die "${1#"${1%%[![:space:]]*}"}${hint:+$'\n'$hint}"
}

look_at_stack() {
  local key value
  STACK=()
  look stack 'does not exist' cloudformation describe-stacks --query "Stacks[0].[
    [['StackStatus', StackStatus], ['StackId', StackId], ['Reason', StackStatusReason]], Parameters[].[ParameterKey, ParameterValue],
    Outputs[].[OutputKey, OutputValue]][]" || return 0
  while IFS=$'\t' read -r key value; do
    [[ -z "$key" || "$key" == None ]] || STACK["$key"]="$value"
  done <"$WORK/stack"
}

# Stops unless the stack is made of our template, by the description that this has had from the first.
# A stack that nothing has been put into yet has no template, but somebody's change set.
require_own_stack() {
  [[ -n "${STACK[StackId]:-}" ]] || return 0
  if [[ "${STACK[StackStatus]}" == REVIEW_IN_PROGRESS ]]; then
    look own '(nothing)' aws_cli cloudformation list-change-sets --stack-name "$STACK_NAME" \
      --query "Summaries[?!starts_with(ChangeSetName, 'valro-')].ChangeSetName"
    [[ -n "$(<"$WORK/own")" ]] || return 0
  else
    look own '(nothing)' cloudformation get-template-summary --query Description
    [[ "$(<"$WORK/own")" != 'Valro backend - '* ]] || return 0
  fi
  die "the stack $STACK_NAME is not Valro's: it is made from another template. Nothing was touched." \
    'Give another --name-prefix.'
}

# wait_a_moment WHAT SINCE: AWS is working, and nobody should think that this hangs.
wait_a_moment() {
  say "  … $1, $((SECONDS - $2)) s"
  sleep 0.5
}

# act COMMAND...: has CloudFormation do something with the stack and tells how far it is until it is
# over, as OUTCOME, with the FAILURES. (AWS's own waiters are silent for half a minute at a time.)
act() {
  local name='' token start="$SECONDS"
  token="valro-$(date +%s)-$$"
  look act '(nothing)' cloudformation "$@" --client-request-token "$token"
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

# Looks at the runtime, so that what cannot work is said before anything is deployed. Who may not look,
# or whose CLI does not know how, deploys all the same.
inspect_runtime() {
  local arn="${GIVEN[AgentRuntimeArn]}" name region status='' protocol idle issuer reason
  [[ "$arn" =~ ^arn:[a-z-]+:bedrock-agentcore:([a-z0-9-]+):([0-9]+):runtime/([A-Za-z0-9_-]+)$ ]] || return 0
  region="${BASH_REMATCH[1]}" name="the runtime ${BASH_REMATCH[3]}"
  if [[ "${BASH_REMATCH[2]}" != "$ACCOUNT" ]]; then
    reason='it belongs to another account'
  elif REGION="$region" aws_cli bedrock-agentcore-control get-agent-runtime --agent-runtime-id "${BASH_REMATCH[3]}" \
    --query '[status, protocolConfiguration.serverProtocol, lifecycleConfiguration.idleRuntimeSessionTimeout,
      authorizerConfiguration.customJWTAuthorizer.discoveryUrl, failureReason]' >"$WORK/runtime" 2>"$WORK/refused"; then
    IFS=$'\t' read -r status protocol idle issuer reason <"$WORK/runtime"
  else
    reason="$(tr -s '\n' ' ' <"$WORK/refused")" reason="${reason# }"
    [[ "$reason" != *'nvalid choice'* ]] || reason='this AWS CLI is too old'
    [[ "$reason" != *ResourceNotFoundException* ]] || die "$name is not in $region. Nothing was changed."
  fi
  if [[ -z "$status" ]]; then
    [[ -v GIVEN[AgentProtocol] ]] || { [[ -v STACK[AgentProtocol] ]] && is_deployed AgentRuntimeArn; } \
      || say "note: $name could not be inspected: ${reason:0:300}"$'\n''  If it speaks AG-UI: --agent-protocol AGUI.'
    return
  fi
  [[ "$issuer" == None ]] || die "$name admits only tokens of $issuer, and so refuses the worker, which signs its" \
    'calls with IAM. Make a runtime without an authorizer. Nothing was changed.'
  protocol="${protocol/None/HTTP}"
  [[ "$protocol" =~ ^(HTTP|AGUI)$ ]] \
    || die "$name speaks $protocol; the worker calls agents that speak HTTP or AGUI. Nothing was changed."
  : "${GIVEN[AgentProtocol]:=$protocol}"
  [[ "${GIVEN[AgentProtocol]}" == "$protocol" ]] || say "warning: $name speaks $protocol, not ${GIVEN[AgentProtocol]}."
  # The stack does not need it, and may well be made at the same time.
  [[ "$status" == READY ]] || say "warning: $name is $status (${reason/None/no reason given}): tasks fail until it is READY."
  [[ "$idle" == None ]] || say "$name ends a session after $((idle / 60)) idle minutes; a reply that comes later" \
    'finds an agent that remembers nothing by itself: docs/agents.md, Conversations.'
}

# Waits for a run that is under way or was interrupted, and removes what a failed first one left.
settle_stack() {
  local start="$SECONDS"
  [[ "${STACK[StackStatus]:-}" != REVIEW_IN_PROGRESS ]] || STACK=()
  while [[ "${STACK[StackStatus]:-}" == *_IN_PROGRESS ]]; do
    wait_a_moment "another run is changing $STACK_NAME (${STACK[StackStatus]})" "$start"
    look_at_stack
  done
  [[ "${STACK[StackStatus]:-}" != UPDATE_ROLLBACK_FAILED ]] || die_of_rollback "${STACK[Reason]}"
  if [[ "${STACK[StackStatus]:-}" =~ ^(ROLLBACK_.*|IMPORT_ROLLBACK_COMPLETE|DELETE_FAILED)$ ]]; then
    say "$STACK_NAME was left by a failed run (${STACK[StackStatus]}): removing it first"
    ! is_on DRY_RUN || end_dry_run 'Everything would then be created again.'
    remove_stack
  fi
}

die_of_rollback() {
  die "AWS could not roll $STACK_NAME back (UPDATE_ROLLBACK_FAILED): $1"$'\n'"Fix the cause, then run this (with" \
    "--resources-to-skip if something cannot be fixed), then this script: $(command_for continue-update-rollback)"
}

end_dry_run() {
  [[ -z "${CHANGE_SET:-}" ]] || drop_change_set
  say "${1:+$1 }This was a dry run: nothing was changed."
  exit 0
}

remove_stack() {
  act delete-stack ${GIVEN[ROLE_ARN]:+--role-arn "${GIVEN[ROLE_ARN]}"}
  [[ "$OUTCOME" == DELETE_COMPLETE ]] || die "$STACK_NAME could not be removed. Why:"$'\n'"$FAILURES"
  STACK=()
}

# ---- the zips -----------------------------------------------------------------------------------

# Builds the zips if one is missing or older than what it is made of, and names them by their content.
prepare_zips() {
  local zip name hash newer
  for name in Api Worker; do
    zip="$HERE/valro-${name,,}-lambda.zip"
    newer="$(find "$HERE"/*.py "$HERE/valro" "$HERE/bundle" "$HERE/requirements.txt" "$HERE/deploy.sh" \
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
  # roll a change back; they cost cents a year.
  : "${GIVEN[CodeBucket]:=${STACK[CodeBucket]:-valro-zips-$ACCOUNT-$REGION}}"
}

upload_zips() {
  local name bucket="${GIVEN[CodeBucket]}" error tags
  local -a owner=(--bucket "$bucket" --expected-bucket-owner "$ACCOUNT") place=()
  if ! error="$(aws_cli s3api head-bucket "${owner[@]}" 2>&1)"; then
    [[ "$error" == *'(404)'* ]] || die "the bucket $bucket cannot be used; is it another account's?" "$error"
    [[ "$REGION" == us-east-1 ]] || place=(--create-bucket-configuration "LocationConstraint=$REGION")
    aws_cli s3api create-bucket --bucket "$bucket" ${place[@]+"${place[@]}"} >/dev/null
    # destroy-infrastructure.sh removes no bucket without this mark.
    printf -v tags '{%s},' "${TAGS[@]}" Key=made-by,Value=valro/create-infrastructure.sh
    aws_cli s3api put-bucket-tagging "${owner[@]}" --tagging "TagSet=[${tags%,}]"
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

# make_change_set TYPE TEMPLATE ARG...: makes a change set and shows what is in it. 1 if nothing changes.
make_change_set() {
  local status=CREATE_PENDING reason='' start="$SECONDS"
  if ! CHANGE_SET="$(cloudformation create-change-set --change-set-name "valro-$(date +%s)-$$" \
    --change-set-type "$1" --template-body "file://$2" --parameters "${PARAMETERS[@]}" "${@:3}" \
    ${GIVEN[ROLE_ARN]:+--role-arn "${GIVEN[ROLE_ARN]}"} --query Id 2>"$WORK/refused")"; then
    reason="$(<"$WORK/refused")"
    [[ "$reason" != *'(ValidationError)'* || "$reason" == *' state and can not be updated'* ]] \
      || wrong_usage "${reason#*operation: }"
    die_of_aws "$reason"
  fi
  while true; do
    look changes '(nothing)' cloudformation describe-change-set --change-set-name "$CHANGE_SET" \
      --include-property-values --query "[[['status', Status, StatusReason]], Changes[].ResourceChange.[
      [['change', LogicalResourceId, Action, Replacement, ResourceType]], Details[].Target.['detail',
      not_null(Path, Name, Attribute), not_null(BeforeValue, 'none'), not_null(AfterValue, 'none')]][][]][]"
    read -r _ status reason <"$WORK/changes"
    [[ "$status" == CREATE_PENDING || "$status" == CREATE_IN_PROGRESS ]] || break
    wait_a_moment 'AWS is working out what changes' "$start"
  done
  [[ "$status" == FAILED ]] || { say_changes && return; }
  [[ "$reason" == *"didn't contain changes"* || "$reason" == *'No updates are to be'* ]] || die_of_change_set "$reason"
  drop_change_set
  return 1
}

# A change set that is not executed leaves nothing, not even a new stack.
drop_change_set() {
  cloudformation delete-change-set --change-set-name "$CHANGE_SET"
  [[ -n "${STACK[StackId]:-}" ]] || cloudformation delete-stack
}

# What the early validation of a change set found is told by another command, of newer versions.
die_of_change_set() {
  local why command="cloudformation describe-events --region $REGION --change-set-name $CHANGE_SET"
  # shellcheck disable=SC2086  # these are words
  if why="$(aws_cli $command --filters FailedEvents=true --query "OperationEvents[?ValidationStatusReason].[
    LogicalResourceId, ValidationStatusReason]" 2>&1)"; then
    drop_change_set
    [[ "$why" != *'already exists'* ]] || why+=$'\n''Remove what is in the way by hand, or avoid it: --name-prefix.'
  else
    why="The reasons could not be read: $why"$'\n'"Try it with the newest AWS CLI: aws $command"
  fi
  die "AWS rejects this change: $1${why:+$'\n'${why//$'\t'/: }}"
}

# One line for each thing that changes. (AWS names a cause twice: its value, and where that comes from.)
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
  [[ -z "${STACK[JwtIssuer]:-}" || -z "${GIVEN[JwtIssuer]:-}" ]] || is_deployed JwtIssuer \
    || say "warning: a user of the new issuer gets the tasks of the old one's user with the same \"sub\":" \
      'docs/operators.md, Changing the issuer.'
}

# Stops where the tasks' table would go, unless the operator says so by its name.
require_tables_kept() {
  local name why
  while read -r name; do
    why="this would replace the tasks' table ($name) with an empty one; the old one would stay, unused. If you"
    why+=" mean that: --allow-replacing $name."
    if [[ ",${GIVEN[ALLOW_REPLACING]:-}," == *",$name,"* ]]; then
      look other ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$TABLE" || continue
      why="the table $TABLE is there already. To have the stack use it: ./destroy-infrastructure.sh, which keeps both"
      why+=' tables, and then this again.'
    fi
    drop_change_set
    die "$why Nothing was changed."
  done < <(awk -F '\t' '$1 == "change" && $5 == "AWS::DynamoDB::Table" && ($3 == "Remove" ||
    $4 ~ /True|Conditional/) {print $2}' "$WORK/changes")
}

execute_change_set() {
  act execute-change-set --change-set-name "$CHANGE_SET"
  [[ "$OUTCOME" != UPDATE_ROLLBACK_FAILED ]] || die_of_rollback $'\n'"$FAILURES"
  [[ "$OUTCOME" == *_COMPLETE && "$OUTCOME" != *ROLLBACK* ]] \
    || die "AWS rolled the change back ($OUTCOME); what was there before is still running. Why:"$'\n'"$FAILURES"
  look_at_stack
}

# ---- a table that is there already --------------------------------------------------------------

# Looks at a table that no stack has: made by hand, or kept when its stack was removed. What it has
# becomes a parameter's value, and what the template cannot say stops the run, since CloudFormation
# compares templates and not tables: whatever the first one leaves out is lost at the next update.
inspect_table() {
  local name value kept=''
  STREAM="${GIVEN[TableStream]-}"
  ! is_on TaskEvents || STREAM=NEW_AND_OLD_IMAGES
  look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$TABLE" --query "Table.[
    ['other keys than id', join(' ', KeySchema[?AttributeName != 'id'].AttributeName)],
    ['keys that are not text', join(' ', AttributeDefinitions[?AttributeType != 'S'].AttributeName)],
    ['indexes of its own', join(' ', GlobalSecondaryIndexes[?IndexName != 'owner-created_at-index'
    || KeySchema[0].AttributeName != 'owner' || KeySchema[1].AttributeName != 'created_at'
    || Projection.ProjectionType != 'KEYS_ONLY'].IndexName || \`[]\`)],
    ['ID', KeySchema[0].AttributeName], ['INDEX', GlobalSecondaryIndexes[0].IndexName],
    ['ON_DEMAND', BillingModeSummary.BillingMode == 'PAY_PER_REQUEST'],
    ['TableDeletionProtection', DeletionProtectionEnabled && 'true'],
    ['TableKmsKeyArn', SSEDescription.KMSMasterKeyArn], ['TableStream', StreamSpecification.StreamViewType]]" || return 0
  look ttl '(nothing)' aws_cli dynamodb describe-time-to-live --table-name "$TABLE" --query \
    "TimeToLiveDescription.[['TTL', starts_with(TimeToLiveStatus, 'ENABL') && AttributeName]]"
  while IFS=$'\t' read -r name value; do
    case "$name=$value" in
      *= | *=None | *=False) ;;
      ID=* | INDEX=* | ON_DEMAND=* | TTL=expires_at) TABLE_HAS["$name"]=true ;;
      TableStream=*) [[ "${STREAM:=$value}" == "$value" ]] || die "the table $TABLE has a stream of another kind:" \
        "$value, not $STREAM. Nothing was changed." ;;&
      Table*) TABLE_HAS["$name"]=true GIVEN["$name"]="${GIVEN[$name]-$value}" kept+=", $name $value" ;;
      *) die "the table $TABLE has ${name/TTL/another time to live} ($value), which this stack cannot keep." \
        'Remove that, or give another --dynamodb-table-name. Nothing was changed.' ;;
    esac
  done < <(cat "$WORK/table" "$WORK/ttl")
  say "table $TABLE: exists, and is adopted with its tasks${kept:+. It keeps ${kept#, }}"
  kept="${STREAM:+${TABLE_HAS[TableStream]-a stream, }}${TABLE_HAS[INDEX]-the index, }"
  kept+="${TABLE_HAS[TTL]-time to live, }${TABLE_HAS[ON_DEMAND]-on-demand capacity, }"
  say "  It gets ${kept//true/}point-in-time recovery"
}

# The table gets what it lacks, one thing at a time, and then is what the template says.
take_in_table() {
  sed '/^Transform:/d; /^Mappings:/,/^  Table:/{/^Resources:/!{/^  Table:/!d;};}; /^  # ---- The worker/,$d' \
    "$TEMPLATE" >"$WORK/table.yaml"
  make_change_set IMPORT "$WORK/table.yaml" --resources-to-import \
    "ResourceType=AWS::DynamoDB::Table,LogicalResourceId=Table,ResourceIdentifier={TableName=$TABLE}"
  ! is_on DRY_RUN || end_dry_run 'Everything else would then be created around the table.'
  [[ -v TABLE_HAS[ON_DEMAND] ]] || change_table update-table --billing-mode PAY_PER_REQUEST
  [[ -v TABLE_HAS[INDEX] ]] || change_table update-table --attribute-definitions AttributeName=id,AttributeType=S \
    AttributeName=owner,AttributeType=S AttributeName=created_at,AttributeType=S --global-secondary-index-updates \
    '[{"Create": {"IndexName": "owner-created_at-index", "Projection": {"ProjectionType": "KEYS_ONLY"}, "KeySchema":
      [{"AttributeName": "owner", "KeyType": "HASH"}, {"AttributeName": "created_at", "KeyType": "RANGE"}]}}]'
  [[ -z "$STREAM" || -v TABLE_HAS[TableStream] ]] || change_table update-table --stream-specification \
    "StreamEnabled=true,StreamViewType=$STREAM"
  [[ -v TABLE_HAS[TTL] ]] || change_table update-time-to-live --time-to-live-specification \
    Enabled=true,AttributeName=expires_at
  change_table update-continuous-backups --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true
  execute_change_set
}

change_table() {
  local start="$SECONDS"
  look change '(nothing)' aws_cli dynamodb "$1" --table-name "$TABLE" "${@:2}"
  while look change '(nothing)' aws_cli dynamodb describe-table --table-name "$TABLE" \
    --query 'Table.[TableStatus, GlobalSecondaryIndexes[].IndexStatus][]' && [[ "$(<"$WORK/change")" == *ING* ]]; do
    wait_a_moment "table $TABLE: $1" "$start"
  done
}

# Asks the API a few times, since a new one takes some seconds to be known everywhere.
verify_api() {
  local status='' tries=8 url="${STACK[ApiUrl]}/tasks?limit=1" wanted=200 seen='The API answers.'
  [[ -z "${STACK[JwtIssuer]:-}" ]] || wanted=401 seen='The API answers, and asks for a token.'
  until [[ "$status" == "$wanted" && ("$status" == 401 || "$(<"$WORK/answer")" == '['*) ]]; do
    ((tries-- > 0)) || die "$url got $status: $(head -c 300 "$WORK/answer" || true)"$'\n'"aws logs" \
      "tail /aws/lambda/$STACK_NAME may say why."
    [[ -z "$status" ]] || { say "  … the API ($status)" && sleep 1; }
    status="$(no_proxy="localhost,${no_proxy:-${NO_PROXY:-}}" curl --silent --show-error --max-time 35 \
      --output "$WORK/answer" --write-out '%{http_code}' "$url")" || true
  done
  say "$seen"
}

# What was given, or else what is deployed; the template has the rest.
collect_parameters() {
  local name value pairs pair
  # Roles from before this option keep their names: running workers would lose their rights with them.
  [[ -z "${STACK[ApiUrl]:-}" || -v STACK[RegionInRoleNames] ]] \
    || GIVEN[RegionInRoleNames]="${GIVEN[RegionInRoleNames]-false}"
  while IFS='|' read -r _ name _; do
    [[ -v GIVEN["$name"] || -v STACK["$name"] ]] || continue
    value="${GIVEN[$name]-${STACK[$name]:-}}" value="${value//\\/\\\\}"
    PARAMETERS+=("ParameterKey=$name,ParameterValue=\"${value//\"/\\\"}\"")
  done < <(list_parameters)
  IFS=',' read -r -a pairs <<<"${GIVEN[TAGS]:-}"
  for pair in "${pairs[@]}"; do TAGS+=("Key=${pair%%=*},Value=\"${pair#*=}\""); done
}

main() {
  local type=UPDATE
  begin "$@"
  settle_stack
  ask_for_agent_arn
  inspect_runtime
  prepare_zips
  [[ -n "${STACK[StackId]:-}" ]] || inspect_table
  collect_parameters
  [[ ! -v TABLE_HAS[ID] ]] || take_in_table
  [[ -n "${STACK[StackId]:-}" ]] || type=CREATE
  if ! make_change_set "$type" "$TEMPLATE" --capabilities CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND \
    ${TAGS[@]+--tags "${TAGS[@]}"}; then
    say 'Nothing had to be changed.'
  else
    require_tables_kept
    ! is_on DRY_RUN || end_dry_run
    upload_zips
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
