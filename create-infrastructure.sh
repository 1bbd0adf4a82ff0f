#!/usr/bin/env bash
#
# Usage: ./create-infrastructure.sh [option...]
#
# Creates everything that Valro needs in an AWS account, or brings what is there to the state
# that the options describe: the table, both roles, both functions, the log groups and the HTTP
# API. It looks first and changes only what differs, so it can be run again at any time, also
# after it was interrupted. stderr gets one line per resource, stdout the API's URL.
#
# Every option is an environment variable too (--api-memory-size is API_MEMORY_SIZE), and a run
# describes the whole stack: what is not given has its default, whatever the last run said.
#
# The agent
#   --agent-runtime-arn ARN         the AgentCore Runtime that does the tasks; asked for on a
#                                   terminal, required otherwise
#   --agent-runtime-qualifier NAME  its endpoint (default: AgentCore's own, DEFAULT)
#   --stop-session-after-task       end the agent's session after a success too, since an idle
#                                   session is billed; only for agents without background work
#
# Where, and under which names
#   --aws-region REGION             default: AWS_REGION, AWS_DEFAULT_REGION, the CLI's
#                                   configuration, us-east-1
#   --region REGION                 the same
#   --name-prefix PREFIX            begins every name below (default: valro); stacks with
#                                   different prefixes share an account without touching
#   --dynamodb-table-name NAME      default: PREFIX-tasks
#   --api-function-name NAME        default: PREFIX-backend
#   --worker-function-name NAME     default: PREFIX-worker
#   --api-role-name NAME            default: PREFIX-lambda-role
#   --worker-role-name NAME         default: PREFIX-worker-role
#   --api-name NAME                 default: PREFIX-api
#
# The functions
#   --api-memory-size MB            default: 512
#   --worker-memory-size MB         default: 1024
#   --worker-timeout SECONDS        default: 600; 900 is the most that Lambda allows
#   --lambda-runtime RUNTIME        default: the Python that built the zips, python3.11
#   --api-concurrency N             reserve N concurrent runs, so that workers cannot starve the
#                                   API (default: none reserved)
#   --worker-concurrency N          at most N agents at a time, to stay within AgentCore's quota;
#                                   more tasks wait as pending (default: no limit)
#   --tracing                       trace both functions with X-Ray
#
# The API
#   --cors-origins LIST             origins of the web pages that may call it, separated by
#                                   commas (default: *)
#   --throttle-rate N               requests a second over all callers (default: 50)
#   --throttle-burst N              and at once (default: 100)
#   --post-throttle-rate N          the same for POST /tasks, where each request costs an agent's
#   --post-throttle-burst N         run (default: 5 and 10)
#   --jwt-issuer URL                let in only bearers of a JSON Web Token of this issuer,
#   --jwt-audience LIST             made for one of these audiences; a task then belongs to the
#                                   token's subject
#   --public                        take an authorizer that is there off again; without this a
#                                   run that forgot --jwt-issuer stops instead
#
# Keeping and watching
#   --log-retention-days N          default: 30
#   --task-ttl-days N               delete tasks N days after they were made (default: keep them)
#   --alarm-topic-arn ARN           make alarms that notify this SNS topic; `none` removes them
#                                   (default: alarms are left as they are)
#
# What to do
#   --backfill                      look for tasks from before the index in a table that has it
#                                   too, and give them an owner, so that they are listed
#   --dry-run                       say what would change, and change nothing
#   --verify                        only ask the deployed API for an answer
#   --no-verify                     do not ask it at the end of a run that changed something
#   --help                          print this
#
# Needs: bash 4.4, the AWS CLI (1.29 or later, or 2.13 or later) with credentials, Python 3.11.
# Exit status: 0 done; 1 something failed, and the last line says what to do; 2 wrong options.

set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly HERE

readonly INDEX_NAME=owner-created_at-index
readonly API_POLICY_NAME=ValroAPIPolicy
readonly WORKER_POLICY_NAME=ValroWorkerPolicy
readonly ROUTES=('POST /tasks' 'GET /tasks' 'GET /tasks/{id}')
readonly API_TIMEOUT=30

# The deadlines that dynamodb_helpers.py gives a pending task count on these two numbers.
readonly MAXIMUM_EVENT_AGE_SECONDS=900
readonly MAXIMUM_RETRY_ATTEMPTS=2

VALUE_OPTIONS=(
  agent-runtime-arn agent-runtime-qualifier
  aws-region name-prefix dynamodb-table-name api-function-name worker-function-name
  api-role-name worker-role-name api-name
  api-memory-size worker-memory-size worker-timeout lambda-runtime
  api-concurrency worker-concurrency
  cors-origins throttle-rate throttle-burst post-throttle-rate post-throttle-burst
  jwt-issuer jwt-audience
  log-retention-days task-ttl-days alarm-topic-arn
)
FLAG_OPTIONS=(stop-session-after-task tracing public backfill dry-run verify no-verify)

# ---- options ------------------------------------------------------------------------------------

usage() {
  sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
}

say() {
  printf '%s\n' "$*" >&2
}

die() {
  say "error: $*"
  exit 1
}

wrong_usage() {
  say "error: $*"
  say "See ${0##*/} --help."
  exit 2
}

# is_one_of WORD LIST...: whether the word is in the list.
is_one_of() {
  local word="$1" candidate
  shift
  for candidate in "$@"; do
    [[ "$candidate" != "$word" ]] || return 0
  done
  return 1
}

# variable_of OPTION: the variable that holds it, API_MEMORY_SIZE for api-memory-size.
variable_of() {
  local name="${1//-/_}"
  printf '%s' "${name^^}"
}

parse_options() {
  local option value
  while (($#)); do
    option="${1%%=*}"
    option="${option#--}"
    [[ "$option" != region ]] || option=aws-region
    if [[ "$1" == --help || "$1" == -h ]]; then
      usage
      exit 0
    elif [[ "$1" == "--$option" ]] && is_one_of "$option" "${FLAG_OPTIONS[@]}"; then
      printf -v "$(variable_of "$option")" true
    elif [[ "$1" == --* ]] && is_one_of "$option" "${VALUE_OPTIONS[@]}"; then
      if [[ "$1" == *=* ]]; then
        value="${1#*=}"
      else
        (($# > 1)) || wrong_usage "$1 needs a value"
        value="$2"
        shift
      fi
      printf -v "$(variable_of "$option")" '%s' "$value"
    else
      wrong_usage "unknown option $1"
    fi
    shift
  done
}

# Fills in what neither an option nor the environment says.
set_defaults() {
  : "${AGENT_RUNTIME_ARN:=}" "${AGENT_RUNTIME_QUALIFIER:=}" "${STOP_SESSION_AFTER_TASK:=}"
  : "${NAME_PREFIX:=valro}"
  : "${DYNAMODB_TABLE_NAME:=$NAME_PREFIX-tasks}"
  : "${API_FUNCTION_NAME:=$NAME_PREFIX-backend}" "${WORKER_FUNCTION_NAME:=$NAME_PREFIX-worker}"
  : "${API_ROLE_NAME:=$NAME_PREFIX-lambda-role}" "${WORKER_ROLE_NAME:=$NAME_PREFIX-worker-role}"
  : "${API_NAME:=$NAME_PREFIX-api}"
  : "${API_MEMORY_SIZE:=512}" "${WORKER_MEMORY_SIZE:=1024}" "${WORKER_TIMEOUT:=600}"
  : "${LAMBDA_RUNTIME:=}" "${API_CONCURRENCY:=}" "${WORKER_CONCURRENCY:=}" "${TRACING:=}"
  : "${CORS_ORIGINS:=*}" "${THROTTLE_RATE:=50}" "${THROTTLE_BURST:=100}"
  : "${POST_THROTTLE_RATE:=5}" "${POST_THROTTLE_BURST:=10}"
  : "${JWT_ISSUER:=}" "${JWT_AUDIENCE:=}" "${PUBLIC:=}"
  : "${LOG_RETENTION_DAYS:=30}" "${TASK_TTL_DAYS:=}" "${ALARM_TOPIC_ARN:=}"
  : "${BACKFILL:=}" "${DRY_RUN:=}" "${VERIFY:=}" "${NO_VERIFY:=}"
  : "${AWS_REGION:=${AWS_DEFAULT_REGION:-}}"
  if [[ -z "$AWS_REGION" ]]; then
    AWS_REGION="$(aws configure get region || true)"
    : "${AWS_REGION:=us-east-1}"
  fi
}

# check_setting VARIABLE PATTERN WHAT-IT-MUST-BE: stops unless the whole value matches. The values
# go into JSON documents, ARNs and command lines, so what passes here needs no quoting there.
check_setting() {
  local LC_ALL=C variable="$1" pattern="$2" meaning="$3"
  [[ "${!variable}" =~ ^($pattern)$ ]] || wrong_usage "$variable is '${!variable}', but $meaning"
}

check_settings() {
  local variable name='[A-Za-z0-9_-]{1,64}' count='[1-9][0-9]{0,5}'
  check_setting NAME_PREFIX '[A-Za-z0-9][A-Za-z0-9-]{0,39}' \
    'a prefix is up to 40 letters, digits and hyphens'
  for variable in API_FUNCTION_NAME WORKER_FUNCTION_NAME API_ROLE_NAME WORKER_ROLE_NAME; do
    check_setting "$variable" "$name" 'a name is 1 to 64 letters, digits, hyphens, underscores'
  done
  check_setting DYNAMODB_TABLE_NAME '[A-Za-z0-9_.-]{3,255}' \
    'a table name is 3 to 255 letters, digits, dots, hyphens, underscores'
  check_setting API_NAME '[A-Za-z0-9 ._-]{1,128}' \
    "an API's name is 1 to 128 letters, digits, spaces, dots, hyphens, underscores"
  check_setting AWS_REGION '[a-z]{2}(-[a-z]+)+-[0-9]+' 'a region looks like us-east-1'
  check_setting AGENT_RUNTIME_QUALIFIER '([a-zA-Z][a-zA-Z0-9_]{0,47})?' \
    "an endpoint's name is 1 to 48 letters, digits, underscores"
  for variable in API_MEMORY_SIZE WORKER_MEMORY_SIZE; do
    check_setting "$variable" '12[89]|1[3-9][0-9]|[2-9][0-9]{2}|[1-9][0-9]{3}|10[01][0-9]{2}|102[0-3][0-9]|10240' \
      "a function's memory is 128 to 10240 (MB)"
  done
  check_setting WORKER_TIMEOUT '[3-9][0-9]|[1-8][0-9]{2}|900' \
    "the worker's timeout is 30 to 900 (seconds)"
  check_setting LAMBDA_RUNTIME '(python3\.[0-9]{2})?' 'a runtime looks like python3.11'
  for variable in THROTTLE_RATE THROTTLE_BURST POST_THROTTLE_RATE POST_THROTTLE_BURST; do
    check_setting "$variable" "$count" 'a limit is a whole number from 1'
  done
  for variable in API_CONCURRENCY WORKER_CONCURRENCY TASK_TTL_DAYS; do
    check_setting "$variable" "($count)?" 'it must be a whole number from 1, or nothing'
  done
  check_setting LOG_RETENTION_DAYS \
    '1|3|5|7|14|30|60|90|120|150|180|365|400|545|731|1096|1827|2192|2557|2922|3288|3653' \
    'CloudWatch Logs knows 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, … days'
  for variable in STOP_SESSION_AFTER_TASK TRACING PUBLIC BACKFILL DRY_RUN VERIFY NO_VERIFY; do
    check_setting "$variable" '(true|false)?' 'it must be true, false or nothing'
  done
  check_setting CORS_ORIGINS '\*|https?://[A-Za-z0-9.:_-]+(,https?://[A-Za-z0-9.:_-]+)*' \
    'origins look like https://app.example.com,http://localhost:5173 (or * for every page)'
  check_setting ALARM_TOPIC_ARN \
    '(none|arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})?' \
    "a topic's ARN looks like arn:aws:sns:us-east-1:123456789012:alarms"
  check_jwt_settings
}

check_jwt_settings() {
  check_setting JWT_ISSUER '(https?://[A-Za-z0-9._~:/%-]+)?' \
    'an issuer is a URL such as https://login.example.com/'
  check_setting JWT_AUDIENCE '([A-Za-z0-9._~:/%@-]+(,[A-Za-z0-9._~:/%@-]+)*)?' \
    'audiences are words or URLs separated by commas'
  if [[ -n "$JWT_ISSUER" && -z "$JWT_AUDIENCE" || -z "$JWT_ISSUER" && -n "$JWT_AUDIENCE" ]]; then
    wrong_usage '--jwt-issuer and --jwt-audience belong together'
  fi
  if [[ -n "$JWT_ISSUER" && "$PUBLIC" == true ]]; then
    wrong_usage '--public and --jwt-issuer contradict each other'
  fi
}

check_agent_arn() {
  local name='[a-zA-Z][a-zA-Z0-9_]{0,47}-[a-zA-Z0-9]{10}'
  check_setting AGENT_RUNTIME_ARN \
    "arn:aws[a-z-]*:bedrock-agentcore:[a-z]{2}(-[a-z]+)+-[0-9]+:[0-9]{12}:runtime/$name" \
    'it must look like arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/my_agent-AbCdEf1234'
}

# The ARN is asked for where somebody can answer, with the deployed one as the default.
ask_for_agent_arn() {
  local deployed=''
  [[ -z "$AGENT_RUNTIME_ARN" ]] || return 0
  if [[ ! -t 0 ]]; then
    wrong_usage "which agent? Give --agent-runtime-arn or set AGENT_RUNTIME_ARN." \
      "Nothing was created."
  fi
  look worker-function ResourceNotFoundException \
    lambda get-function --function-name "$WORKER_FUNCTION_NAME"
  if found worker-function; then
    deployed="$(
      fields "$WORK/worker-function" Configuration.Environment.Variables.AGENT_RUNTIME_ARN
    )"
  fi
  read -r -p "AgentCore Runtime ARN${deployed:+ [$deployed]}: " AGENT_RUNTIME_ARN
  : "${AGENT_RUNTIME_ARN:=$deployed}"
}

# A Mac's own bash is too old.
check_bash() {
  ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) \
    || die "this is bash $BASH_VERSION; 4.4 or later is needed (on a Mac: brew install bash)."
}

check_tools() {
  command -v aws >/dev/null || die 'the AWS CLI is missing: https://aws.amazon.com/cli/'
  command -v python3 >/dev/null || die 'python3 is missing: install Python 3.11 or later'
}

# ---- talking to AWS -----------------------------------------------------------------------------

aws_cli() {
  AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off aws --region "$AWS_REGION" --output json "$@"
}

# look NAME NOT-FOUND-CODE COMMAND...: asks AWS and keeps the answer as $WORK/NAME. The one named
# error means that there is nothing, and leaves no file; every other error stops the run.
look() {
  local name="$1" not_found="$2"
  shift 2
  if aws_cli "$@" >"$WORK/$name.part" 2>"$WORK/$name.error"; then
    mv "$WORK/$name.part" "$WORK/$name"
  elif [[ "$(<"$WORK/$name.error")" != *"($not_found)"* ]]; then
    cat "$WORK/$name.error" >&2
    die "could not look up: $name."
  fi
}

# found NAME: whether look found something.
found() {
  [[ -f "$WORK/$1" ]]
}

# The errors that pass by themselves while AWS is still spreading what was just made. Nothing else
# is tried again.
passes_by_itself() {
  case "$1" in
    *'(InvalidParameterValueException)'*'cannot be assumed by Lambda'*) ;;
    *'(InvalidParameterValueException)'*'permissions to call PutTraceSegments on XRAY'*) ;;
    *'(ContinuousBackupsUnavailableException)'*) ;;
    *) return 1 ;;
  esac
}

# change COMMAND...: makes one change and prints AWS's answer; in a dry run it does neither.
change() {
  local error pause
  [[ "$DRY_RUN" != true ]] || return 0
  error="$(mktemp "$WORK/change.XXXXXX")"
  for pause in 1 2 3 4 5 5 5 5 5 5 5 5 5 5 0; do
    if aws_cli "$@" 2>"$error"; then
      return 0
    fi
    if ((pause == 0)) || ! passes_by_itself "$(<"$error")"; then
      break
    fi
    sleep "$pause"
  done
  explain "$(<"$error")" "$1 $2"
  exit 1
}

# explain ERROR COMMAND: AWS's error, and what it means where AWS does not say.
explain() {
  say "$1"
  case "$1" in
    *UnreservedConcurrentExecution*) explain_concurrency ;;
    *'(DeleteConflict)'*)
      say "error: something that this script did not make is attached to the role. Detach it first" \
        "(aws iam list-attached-role-policies, aws iam list-role-policies)."
      ;;
    *) say "error: aws $2 failed." ;;
  esac
}

explain_concurrency() {
  local limit
  limit="$(
    aws_cli lambda get-account-settings \
      --query AccountLimit.ConcurrentExecutions --output text || printf 'unknown'
  )"
  say "error: this account may run $limit functions at once in this region, and AWS keeps 100 of" \
    "them unreserved (all of them in a new account, which has 10). Reserve less, do without" \
    "--api-concurrency and --worker-concurrency, or ask AWS for a higher quota of Lambda" \
    "concurrent executions."
}

# side_by_side FUNCTION...: runs them all at once and waits for all of them. A failure stops none
# of the others, so that no change is cut off in the middle, and is returned at the end.
side_by_side() {
  local step pid failed=0
  local -a pids=()
  for step in "$@"; do
    (
      # The calls under way are finished before an interrupted lane ends.
      trap 'wait; exit 143' TERM
      "$step"
    ) &
    pids+=("$!")
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
  done
  return "$failed"
}

# ---- reporting ----------------------------------------------------------------------------------

# outcome RESOURCE WORD [DETAIL]: the one line of a resource, and a mark if something changed.
outcome() {
  local word="$2"
  if [[ "$DRY_RUN" == true ]]; then
    word="would be $word"
  fi
  say "$1: $word${3:+ ($3)}"
  printf '%s\n' "$1" >>"$WORK/changes"
}

created() { outcome "$1" created "${2:-}"; }
updated() { outcome "$1" updated "$2"; }
removed() { outcome "$1" removed "${2:-}"; }
unchanged() { say "$1: unchanged"; }

# ---- JSON ---------------------------------------------------------------------------------------

# json COMMAND ARG...: what bash and the CLI's --query cannot do with documents.
json() {
  python3 -I -S "$HERE/infrastructure.py" "$@"
}

drift() { json drift "$@"; }
fields() { json fields "$@"; }

# list LIST: a JSON list of the words in a list that is separated by commas.
list() {
  printf '["%s"]' "${1//,/\",\"}"
}

# ---- what is there ------------------------------------------------------------------------------

look_identity() {
  aws_cli sts get-caller-identity --query '[Account, Arn]' --output text >"$WORK/identity" \
    || die 'AWS does not know you. Look at your credentials: aws sts get-caller-identity'
}

look_table() {
  look table ResourceNotFoundException dynamodb describe-table \
    --table-name "$DYNAMODB_TABLE_NAME" \
    --query "Table.{TableStatus: TableStatus, KeySchema: KeySchema, Index:
      GlobalSecondaryIndexes[?IndexName=='$INDEX_NAME'] | [0]}"
  found table || return 0
  look backups TableNotFoundException \
    dynamodb describe-continuous-backups --table-name "$DYNAMODB_TABLE_NAME"
  if [[ -n "$TASK_TTL_DAYS" ]]; then
    look ttl ResourceNotFoundException \
      dynamodb describe-time-to-live --table-name "$DYNAMODB_TABLE_NAME"
  fi
}

look_worker_role() { look_role worker "$WORKER_ROLE_NAME" "$WORKER_POLICY_NAME"; }
look_api_role() { look_role api "$API_ROLE_NAME" "$API_POLICY_NAME"; }

look_role() {
  look "$1-role" NoSuchEntity iam get-role --role-name "$2"
  found "$1-role" || return 0
  look "$1-role-policy" NoSuchEntity iam get-role-policy --role-name "$2" --policy-name "$3"
}

look_worker_function() {
  found worker-function || look worker-function ResourceNotFoundException \
    lambda get-function --function-name "$WORKER_FUNCTION_NAME"
  found worker-function || return 0
  look worker-events ResourceNotFoundException \
    lambda get-function-event-invoke-config --function-name "$WORKER_FUNCTION_NAME"
}

look_api_function() {
  look api-function ResourceNotFoundException \
    lambda get-function --function-name "$API_FUNCTION_NAME"
  found api-function || return 0
  look api-permissions ResourceNotFoundException \
    lambda get-policy --function-name "$API_FUNCTION_NAME"
}

look_log_groups() {
  look log-groups ResourceNotFoundException logs describe-log-groups \
    --log-group-name-prefix "/aws/lambda/$(common_start "$API_FUNCTION_NAME" "$WORKER_FUNCTION_NAME")" \
    --query 'logGroups[].[logGroupName, retentionInDays]' --output text
}

# common_start A B: what both words begin with.
common_start() {
  local length=0
  while ((length < ${#1})) && [[ "${1:length:1}" == "${2:length:1}" ]]; do
    length=$((length + 1))
  done
  printf '%s' "${1:0:length}"
}

look_gateway() {
  look_api
  [[ -n "$API_ID" ]] || return 0
  side_by_side look_integrations look_routes look_stage look_authorizer
}

# The names of HTTP APIs are not unique, so two are a question for a person.
look_api() {
  local other
  look apis NotFoundException apigatewayv2 get-apis --query "Items[?Name=='$API_NAME']"
  API_ID="$(fields "$WORK/apis" 0.ApiId)"
  other="$(fields "$WORK/apis" 1.ApiId)"
  if [[ -n "$other" ]]; then
    die "there are two APIs named $API_NAME, $API_ID and $other. Delete the one that nobody" \
      "uses (aws apigatewayv2 delete-api --api-id …), or choose another --api-name."
  fi
}

look_integrations() {
  look integrations NotFoundException apigatewayv2 get-integrations --api-id "$API_ID" \
    --output text --query \
    'Items[].[IntegrationId, IntegrationUri, IntegrationType, PayloadFormatVersion, TimeoutInMillis]'
}

look_routes() {
  look routes NotFoundException apigatewayv2 get-routes --api-id "$API_ID" --output text \
    --query 'Items[].[RouteKey, RouteId, Target, AuthorizationType, AuthorizerId]'
}

look_stage() {
  # shellcheck disable=SC2016 # the stage is really called $default
  look stage NotFoundException apigatewayv2 get-stage --api-id "$API_ID" --stage-name '$default'
}

look_authorizer() {
  [[ -n "$JWT_ISSUER" || "$PUBLIC" == true ]] || return 0
  look authorizers NotFoundException apigatewayv2 get-authorizers --api-id "$API_ID" \
    --query "Items[?Name=='$API_NAME-jwt']"
}

# A run that merely forgot --jwt-issuer must not open the API to everybody, nor undo a protection
# that somebody put on by hand.
refuse_to_become_public() {
  [[ -z "$JWT_ISSUER" && "$PUBLIC" != true ]] || return 0
  if found routes && [[ "$(<"$WORK/routes")" =~ $'\t'(JWT|AWS_IAM|CUSTOM)$'\t' ]]; then
    die "$API_NAME lets in only some callers, and this run would make it public. Give --jwt-issuer and" \
      "--jwt-audience again, or say --public. Nothing was changed."
  fi
}

# ---- what should be there -----------------------------------------------------------------------

# document NAME: keeps stdin as $WORK/NAME.json, to create from, to compare with and to update by.
document() {
  cat >"$WORK/$1.json"
}

describe_wanted_state() {
  FUNCTION_ARN="arn:$PARTITION:lambda:$AWS_REGION:$ACCOUNT:function"
  describe_table
  describe_roles
  describe_functions
  describe_gateway
}

describe_table() {
  document table <<END
{
  "TableName": "$DYNAMODB_TABLE_NAME",
  "BillingMode": "PAY_PER_REQUEST",
  "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
  "AttributeDefinitions": [
    {"AttributeName": "id", "AttributeType": "S"},
    {"AttributeName": "owner", "AttributeType": "S"},
    {"AttributeName": "created_at", "AttributeType": "S"}
  ],
  "GlobalSecondaryIndexes": [$(index_definition)]
}
END
  document index <<END
{
  "TableName": "$DYNAMODB_TABLE_NAME",
  "AttributeDefinitions": [
    {"AttributeName": "owner", "AttributeType": "S"},
    {"AttributeName": "created_at", "AttributeType": "S"}
  ],
  "GlobalSecondaryIndexUpdates": [{"Create": $(index_definition)}]
}
END
}

index_definition() {
  cat <<END
{
  "IndexName": "$INDEX_NAME",
  "KeySchema": [
    {"AttributeName": "owner", "KeyType": "HASH"},
    {"AttributeName": "created_at", "KeyType": "RANGE"}
  ],
  "Projection": {"ProjectionType": "KEYS_ONLY"}
}
END
}

describe_roles() {
  document trust <<END
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {"Service": "lambda.amazonaws.com"},
      "Action": "sts:AssumeRole"
    }
  ]
}
END
  narrow_policy "$HERE/iam-policy.json" | document api-policy
  narrow_policy "$HERE/worker-iam-policy.json" | document worker-policy
}

# narrow_policy FILE: the policy for exactly this stack's resources.
narrow_policy() {
  local policy
  local agents="arn:$PARTITION:bedrock-agentcore:*:*:runtime/*"
  policy="$(<"$1")"
  policy="${policy//arn:aws:/arn:$PARTITION:}"
  policy="${policy//"$agents/runtime-endpoint/*"/"$AGENT_RUNTIME_ARN/runtime-endpoint/*"}"
  policy="${policy//"$agents"/"$AGENT_RUNTIME_ARN"}"
  policy="${policy//:\*:\*:/:$AWS_REGION:$ACCOUNT:}"
  policy="${policy//table\/valro-tasks/table\/$DYNAMODB_TABLE_NAME}"
  policy="${policy//function:valro-worker/function:$WORKER_FUNCTION_NAME}"
  policy="${policy//log-group:\/aws\/lambda\/valro-backend:/log-group:\/aws\/lambda\/$API_FUNCTION_NAME:}"
  policy="${policy//log-group:\/aws\/lambda\/valro-worker:/log-group:\/aws\/lambda\/$WORKER_FUNCTION_NAME:}"
  # The log groups are made here, with their retention; a function need not be able to.
  policy="${policy//'"logs:CreateLogGroup", '/}"
  if [[ "$TRACING" == true ]]; then
    policy="${policy%]*}, $(tracing_statement)]}"
  fi
  printf '%s\n' "$policy"
}

# X-Ray knows no resources.
tracing_statement() {
  cat <<END
{
  "Sid": "Tracing",
  "Effect": "Allow",
  "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
  "Resource": "*"
}
END
}

describe_functions() {
  local common="\"DYNAMODB_TABLE_NAME\": \"$DYNAMODB_TABLE_NAME\""
  common+="${TASK_TTL_DAYS:+, \"TASK_TTL_DAYS\": \"$TASK_TTL_DAYS\"}"
  describe_function "$API_FUNCTION_NAME" "$API_ROLE_NAME" lambda_function.lambda_handler \
    "$API_TIMEOUT" "$API_MEMORY_SIZE" \
    "$common, \"WORKER_LAMBDA_ARN\": \"$FUNCTION_ARN:$WORKER_FUNCTION_NAME\"" \
    | document api-function
  local worker="$common, \"AGENT_RUNTIME_ARN\": \"$AGENT_RUNTIME_ARN\""
  worker+="${AGENT_RUNTIME_QUALIFIER:+, \"AGENT_RUNTIME_QUALIFIER\": \"$AGENT_RUNTIME_QUALIFIER\"}"
  if [[ "$STOP_SESSION_AFTER_TASK" == true ]]; then
    worker+=', "STOP_SESSION_AFTER_TASK": "true"'
  fi
  describe_function "$WORKER_FUNCTION_NAME" "$WORKER_ROLE_NAME" worker_lambda.lambda_handler \
    "$WORKER_TIMEOUT" "$WORKER_MEMORY_SIZE" "$worker" | document worker-function
  document worker-events <<END
{
  "MaximumEventAgeInSeconds": $MAXIMUM_EVENT_AGE_SECONDS,
  "MaximumRetryAttempts": $MAXIMUM_RETRY_ATTEMPTS
}
END
}

# AWS_REGION is not among the variables: Lambda sets it and refuses a function that does.
describe_function() {
  local name="$1" role="$2" handler="$3" timeout="$4" memory="$5" variables="$6"
  local mode=PassThrough
  [[ "$TRACING" != true ]] || mode=Active
  cat <<END
{
  "FunctionName": "$name",
  "Runtime": "$LAMBDA_RUNTIME",
  "Role": "arn:$PARTITION:iam::$ACCOUNT:role/$role",
  "Handler": "$handler",
  "Timeout": $timeout,
  "MemorySize": $memory,
  "Environment": {"Variables": {$variables}},
  "TracingConfig": {"Mode": "$mode"},
  "LoggingConfig": {
    "LogFormat": "JSON",
    "ApplicationLogLevel": "INFO",
    "SystemLogLevel": "INFO",
    "LogGroup": "/aws/lambda/$name"
  }
}
END
}

# The header names of the CORS answer are those that lambda_function.py answers by itself.
describe_gateway() {
  local origins audiences
  origins="$(list "$CORS_ORIGINS")"
  audiences="$(list "$JWT_AUDIENCE")"
  document api <<END
{
  "Name": "$API_NAME",
  "CorsConfiguration": {
    "AllowOrigins": $origins,
    "AllowMethods": ["GET", "POST", "OPTIONS"],
    "AllowHeaders": ["content-type", "idempotency-key", "if-none-match", "authorization"],
    "ExposeHeaders": ["location", "retry-after", "etag", "link", "idempotent-replayed"],
    "MaxAge": 3600
  }
}
END
  document integration <<END
{
  "IntegrationType": "AWS_PROXY",
  "IntegrationUri": "$FUNCTION_ARN:$API_FUNCTION_NAME",
  "PayloadFormatVersion": "2.0",
  "TimeoutInMillis": ${API_TIMEOUT}000
}
END
  document stage <<END
{
  "StageName": "\$default",
  "AutoDeploy": true,
  "DefaultRouteSettings": {
    "ThrottlingRateLimit": $THROTTLE_RATE,
    "ThrottlingBurstLimit": $THROTTLE_BURST
  },
  "RouteSettings": {
    "POST /tasks": {
      "ThrottlingRateLimit": $POST_THROTTLE_RATE,
      "ThrottlingBurstLimit": $POST_THROTTLE_BURST
    }
  }
}
END
  document authorizer <<END
{
  "Name": "$API_NAME-jwt",
  "AuthorizerType": "JWT",
  "IdentitySource": ["\$request.header.Authorization"],
  "JwtConfiguration": {"Issuer": "$JWT_ISSUER", "Audience": $audiences}
}
END
}

# ---- the zips -----------------------------------------------------------------------------------

# Builds the zips if one is missing or older than what it is made of.
ensure_zips() {
  local zip source stale=''
  for zip in valro-api-lambda.zip valro-worker-lambda.zip; do
    for source in lambda_function.py worker_lambda.py agent_runtime.py agent_answers.py \
      dynamodb_helpers.py dynamodb_items.py tasks.py aws_lambda.py http_events.py \
      requirements.txt deploy.sh build_zips.py; do
      if [[ ! "$HERE/$zip" -nt "$HERE/$source" && -e "$HERE/$source" ]]; then
        stale="$zip"
      fi
    done
  done
  [[ -n "$stale" ]] || return 0
  if [[ "$DRY_RUN" == true ]]; then
    say "$stale is missing or older than its sources: deploy.sh would be run first"
    return
  fi
  say "$stale is missing or older than its sources: running deploy.sh"
  "$HERE/deploy.sh" >&2 || die 'deploy.sh failed, so there is nothing to deploy.'
}

# A dry run may have no zips to read.
read_zip_facts() {
  local -a api_zip=('') worker_zip=('')
  if [[ -e "$HERE/valro-api-lambda.zip" && -e "$HERE/valro-worker-lambda.zip" ]]; then
    mapfile -t api_zip <<<"$(json zip_facts "$HERE/valro-api-lambda.zip")"
    mapfile -t worker_zip <<<"$(json zip_facts "$HERE/valro-worker-lambda.zip")"
  fi
  API_CODE_SHA256="${api_zip[0]}"
  WORKER_CODE_SHA256="${worker_zip[0]}"
  : "${LAMBDA_RUNTIME:=${api_zip[1]:-python3.11}}"
}

# ---- the table ----------------------------------------------------------------------------------

ensure_table() {
  local what="table $DYNAMODB_TABLE_NAME"
  local -a now
  if ! found table; then
    change dynamodb create-table --cli-input-json "file://$WORK/table.json" \
      --query TableDescription.TableStatus --output text >"$WORK/table-status"
    wait_for_table "$(<"$WORK/table-status")"
    created "$what"
  else
    mapfile -t now <<<"$(fields "$WORK/table" TableStatus KeySchema.0.AttributeName KeySchema.1)"
    [[ "${now[1]}${now[2]:-}" == id ]] || die "the table $DYNAMODB_TABLE_NAME has other keys than id, so it is" \
      "not Valro's. Choose another --dynamodb-table-name."
    wait_for_table "${now[0]}"
    unchanged "$what"
  fi
  ensure_backups
  ensure_ttl
}

# wait_for_table STATUS: waits for a table that is still being made.
wait_for_table() {
  [[ "$1" == CREATING ]] || return 0
  wait_for dynamodb table-exists --table-name "$DYNAMODB_TABLE_NAME"
}

ensure_backups() {
  local what="point-in-time recovery of $DYNAMODB_TABLE_NAME" status=''
  local path=ContinuousBackupsDescription.PointInTimeRecoveryDescription
  if found backups; then
    status="$(fields "$WORK/backups" "$path.PointInTimeRecoveryStatus")"
  fi
  if [[ "$status" == ENABLED ]]; then
    unchanged "$what"
    return
  fi
  change dynamodb update-continuous-backups --table-name "$DYNAMODB_TABLE_NAME" \
    --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true >/dev/null
  updated "$what" 'switched on'
}

# Time to live stays on once it is on: tasks that were given an end keep it.
ensure_ttl() {
  local what="time to live of $DYNAMODB_TABLE_NAME"
  local -a now=('' '')
  [[ -n "$TASK_TTL_DAYS" ]] || return 0
  if found ttl; then
    mapfile -t now <<<"$(
      fields "$WORK/ttl" TimeToLiveDescription.TimeToLiveStatus TimeToLiveDescription.AttributeName
    )"
  fi
  if [[ "${now[0]}" == ENABL* && "${now[1]}" == expires_at ]]; then
    unchanged "$what"
    return
  fi
  if [[ "${now[0]}" == ENABL* ]]; then
    die "$DYNAMODB_TABLE_NAME deletes by its attribute ${now[1]}. AWS wants that switched off" \
      "first, which takes an hour: aws dynamodb update-time-to-live."
  fi
  change dynamodb update-time-to-live --table-name "$DYNAMODB_TABLE_NAME" \
    --time-to-live-specification Enabled=true,AttributeName=expires_at >/dev/null
  updated "$what" 'switched on'
}

# wait_for SERVICE WAITER ARG...: the CLI's own bounded waiter.
wait_for() {
  local service="$1"
  shift
  change "$service" wait "$@"
}

# ---- the roles ----------------------------------------------------------------------------------

ensure_worker_role() { ensure_role worker "$WORKER_ROLE_NAME" "$WORKER_POLICY_NAME"; }
ensure_api_role() { ensure_role api "$API_ROLE_NAME" "$API_POLICY_NAME"; }

# ensure_role KEY ROLE POLICY: the role that only Lambda may take, and its one policy.
ensure_role() {
  local key="$1" role="$2" policy="$3" difference
  if ! found "$key-role"; then
    change iam create-role --role-name "$role" \
      --assume-role-policy-document "file://$WORK/trust.json" >/dev/null
    created "role $role"
  else
    difference="$(drift "$WORK/trust.json" "$WORK/$key-role" Role.AssumeRolePolicyDocument)"
    if [[ -n "$difference" ]]; then
      change iam update-assume-role-policy --role-name "$role" \
        --policy-document "file://$WORK/trust.json"
      updated "role $role" 'trust policy'
    else
      unchanged "role $role"
    fi
  fi
  ensure_role_policy "$key" "$role" "$policy"
}

ensure_role_policy() {
  local key="$1" role="$2" policy="$3" what="policy $3 of $2" difference=''
  if found "$key-role-policy"; then
    difference="$(drift "$WORK/$key-policy.json" "$WORK/$key-role-policy" PolicyDocument)"
    if [[ -z "$difference" ]]; then
      unchanged "$what"
      return
    fi
  fi
  change iam put-role-policy --role-name "$role" --policy-name "$policy" \
    --policy-document "file://$WORK/$key-policy.json"
  if [[ -n "$difference" ]]; then
    updated "$what" "$difference"
  else
    created "$what"
  fi
}

# ---- the functions ------------------------------------------------------------------------------

ensure_worker() {
  ensure_worker_role
  ensure_function worker "$WORKER_FUNCTION_NAME" valro-worker-lambda.zip "$WORKER_CODE_SHA256"
}

ensure_api_function() {
  ensure_function api "$API_FUNCTION_NAME" valro-api-lambda.zip "$API_CODE_SHA256"
}

# What belongs to a function is refused while the function is being made. Both are waited for at
# the end, when AWS is done with them anyway.
finish_worker() {
  settle_function worker "$WORKER_FUNCTION_NAME"
  ensure_worker_events
  ensure_concurrency worker "$WORKER_FUNCTION_NAME" "$WORKER_CONCURRENCY"
}

finish_api() {
  settle_function api "$API_FUNCTION_NAME"
  ensure_permission
  ensure_concurrency api "$API_FUNCTION_NAME" "$API_CONCURRENCY"
}

settle_function() {
  [[ -e "$WORK/$1-pending" ]] || return 0
  wait_for lambda function-active-v2 --function-name "$2"
}

# ensure_function KEY NAME ZIP SHA256
ensure_function() {
  local key="$1" name="$2" zip="$3"
  if ! found "$key-function"; then
    change lambda create-function --cli-input-json "file://$WORK/$key-function.json" \
      --zip-file "fileb://$HERE/$zip" >/dev/null
    : >"$WORK/$key-pending"
    created "function $name"
    return
  fi
  update_function "$@"
}

# Lambda refuses an update while another one is under way, so each is waited for.
update_function() {
  local key="$1" name="$2" zip="$3" sha256="$4" difference
  local -a now
  mapfile -t now <<<"$(
    fields "$WORK/$key-function" Configuration.CodeSha256 Configuration.LastModified \
      Configuration.State Configuration.LastUpdateStatus
  )"
  if [[ "${now[2]}" == Pending ]]; then
    wait_for lambda function-active-v2 --function-name "$name"
  elif [[ "${now[3]}" == InProgress ]]; then
    wait_for lambda function-updated-v2 --function-name "$name"
  fi
  difference="$(drift "$WORK/$key-function.json" "$WORK/$key-function" Configuration)"
  if role_is_newer "$key" "${now[1]}"; then
    difference="${difference:+$difference, }role made again"
  fi
  if [[ -n "$difference" ]]; then
    change lambda update-function-configuration \
      --cli-input-json "file://$WORK/$key-function.json" >/dev/null
    wait_for lambda function-updated-v2 --function-name "$name"
  fi
  if [[ "${now[0]}" != "$sha256" ]]; then
    change lambda update-function-code --function-name "$name" \
      --zip-file "fileb://$HERE/$zip" >/dev/null
    wait_for lambda function-updated-v2 --function-name "$name"
    difference="${difference:+$difference, }code"
  fi
  if [[ -n "$difference" ]]; then
    updated "function $name" "$difference"
  else
    unchanged "function $name"
  fi
}

# role_is_newer KEY LAST-MODIFIED: whether the role was made after the function was last changed.
# A role that was deleted and made again has the same name but is another one to AWS, which lets
# the function use it only once the function was told of it again. (Both times are UTC.)
role_is_newer() {
  local made
  found "$1-role" || return 0
  made="$(fields "$WORK/$1-role" Role.CreateDate)"
  [[ "${made:0:19}" > "${2:0:19}" ]]
}

# This call clears what it does not name, so an operator's destinations are named again.
ensure_worker_events() {
  local what="asynchronous settings of $WORKER_FUNCTION_NAME" difference='' destinations=''
  if found worker-events; then
    difference="$(drift "$WORK/worker-events.json" "$WORK/worker-events")"
    if [[ -z "$difference" ]]; then
      unchanged "$what"
      return
    fi
    destinations="$(fields "$WORK/worker-events" DestinationConfig)"
  fi
  [[ "$destinations" == *'"Destination"'* ]] || destinations=''
  change lambda put-function-event-invoke-config --function-name "$WORKER_FUNCTION_NAME" \
    --cli-input-json "file://$WORK/worker-events.json" \
    ${destinations:+--destination-config "$destinations"} >/dev/null
  if [[ -n "$difference" ]]; then
    updated "$what" "$difference"
  else
    created "$what" "events wait $MAXIMUM_EVENT_AGE_SECONDS s, $MAXIMUM_RETRY_ATTEMPTS retries"
  fi
}

# ensure_concurrency KEY NAME WANTED
ensure_concurrency() {
  local what="reserved concurrency of $2" wanted="$3" reserved=''
  if found "$1-function"; then
    reserved="$(fields "$WORK/$1-function" Concurrency.ReservedConcurrentExecutions)"
  fi
  if [[ "$reserved" == "$wanted" ]]; then
    [[ -z "$wanted" ]] || unchanged "$what"
  elif [[ -n "$wanted" ]]; then
    change lambda put-function-concurrency --function-name "$2" \
      --reserved-concurrent-executions "$wanted" >/dev/null
    updated "$what" "${reserved:-none} -> $wanted"
  else
    change lambda delete-function-concurrency --function-name "$2"
    removed "$what" "was $reserved"
  fi
}

# ---- the log groups -----------------------------------------------------------------------------

ensure_worker_logs() { ensure_log_group "/aws/lambda/$WORKER_FUNCTION_NAME"; }
ensure_api_logs() { ensure_log_group "/aws/lambda/$API_FUNCTION_NAME"; }

ensure_log_group() {
  local name="$1" what="log group $1" line group days='' exists=''
  while IFS=$'\t' read -r group line; do
    if [[ "$group" == "$name" ]]; then
      exists=true
      days="$line"
    fi
  done <"$WORK/log-groups"
  if [[ -z "$exists" ]]; then
    change logs create-log-group --log-group-name "$name"
  elif [[ "$days" == "$LOG_RETENTION_DAYS" ]]; then
    unchanged "$what"
    return
  fi
  change logs put-retention-policy --log-group-name "$name" \
    --retention-in-days "$LOG_RETENTION_DAYS"
  if [[ -z "$exists" ]]; then
    created "$what" "kept $LOG_RETENTION_DAYS days"
  else
    updated "$what" "retention ${days/None/for ever} -> $LOG_RETENTION_DAYS days"
  fi
}

# ---- the HTTP API -------------------------------------------------------------------------------

ensure_gateway() {
  ensure_api
  ensure_authorizer
  ensure_integration
  side_by_side ensure_route_0 ensure_route_1 ensure_route_2
  ensure_stage
}

ensure_api() {
  local difference
  if [[ -z "$API_ID" ]]; then
    change apigatewayv2 create-api --protocol-type HTTP --cli-input-json "file://$WORK/api.json" \
      >"$WORK/created-api"
    created "API $API_NAME"
    if [[ "$DRY_RUN" != true ]]; then
      API_ID="$(fields "$WORK/created-api" ApiId)"
      printf '[%s]' "$(<"$WORK/created-api")" >"$WORK/apis"
    fi
    return
  fi
  difference="$(drift "$WORK/api.json" "$WORK/apis" 0)"
  if [[ -n "$difference" ]]; then
    change apigatewayv2 update-api --api-id "$API_ID" \
      --cli-input-json "file://$WORK/api.json" >/dev/null
    updated "API $API_NAME" "$difference"
  else
    unchanged "API $API_NAME"
  fi
}

ensure_authorizer() {
  local what="JWT authorizer of $API_NAME" difference
  AUTHORIZER_ID=''
  [[ -n "$JWT_ISSUER" ]] || return 0
  if found authorizers; then
    AUTHORIZER_ID="$(fields "$WORK/authorizers" 0.AuthorizerId)"
  fi
  if [[ -z "$AUTHORIZER_ID" ]]; then
    AUTHORIZER_ID="$(
      change apigatewayv2 create-authorizer --api-id "$API_ID" \
        --cli-input-json "file://$WORK/authorizer.json" --query AuthorizerId --output text
    )"
    created "$what" "$JWT_ISSUER"
    return
  fi
  difference="$(drift "$WORK/authorizer.json" "$WORK/authorizers" 0)"
  if [[ -n "$difference" ]]; then
    change apigatewayv2 update-authorizer --api-id "$API_ID" --authorizer-id "$AUTHORIZER_ID" \
      --cli-input-json "file://$WORK/authorizer.json" >/dev/null
    updated "$what" "$difference"
  else
    unchanged "$what"
  fi
}

# An authorizer can go only when no route uses it any more.
remove_authorizer() {
  local id=''
  if [[ "$PUBLIC" == true ]] && found authorizers; then
    id="$(fields "$WORK/authorizers" 0.AuthorizerId)"
  fi
  [[ -n "$id" ]] || return 0
  change apigatewayv2 delete-authorizer --api-id "$API_ID" --authorizer-id "$id"
  removed "JWT authorizer of $API_NAME"
}

ensure_integration() {
  local what="integration of $API_NAME" now wanted
  wanted="$FUNCTION_ARN:$API_FUNCTION_NAME"$'\t'"AWS_PROXY"$'\t'"2.0"$'\t'"${API_TIMEOUT}000"
  find_integration
  if [[ -z "$INTEGRATION_ID" ]]; then
    INTEGRATION_ID="$(
      change apigatewayv2 create-integration --api-id "$API_ID" \
        --cli-input-json "file://$WORK/integration.json" --query IntegrationId --output text
    )"
    created "$what" "$API_FUNCTION_NAME"
    return
  fi
  now="$(grep "^$INTEGRATION_ID"$'\t' "$WORK/integrations")"
  if [[ "${now#*$'\t'}" == "$wanted" ]]; then
    unchanged "$what"
  else
    change apigatewayv2 update-integration --api-id "$API_ID" \
      --integration-id "$INTEGRATION_ID" --cli-input-json "file://$WORK/integration.json" >/dev/null
    updated "$what" "${now#*$'\t'} -> $wanted"
  fi
}

# The integration is the one that leads to our function, or else the one that our routes use.
find_integration() {
  local id uri rest key target
  INTEGRATION_ID=''
  found integrations || return 0
  while IFS=$'\t' read -r id uri rest; do
    [[ "$uri" != "$FUNCTION_ARN:$API_FUNCTION_NAME" ]] || INTEGRATION_ID="$id"
  done <"$WORK/integrations"
  [[ -z "$INTEGRATION_ID" ]] || return 0
  while IFS=$'\t' read -r key _ target rest; do
    id="${target#integrations/}"
    if is_one_of "$key" "${ROUTES[@]}" && grep -q "^$id"$'\t' "$WORK/integrations"; then
      INTEGRATION_ID="$id"
    fi
  done <"$WORK/routes"
}

ensure_route_0() { ensure_route "${ROUTES[0]}"; }
ensure_route_1() { ensure_route "${ROUTES[1]}"; }
ensure_route_2() { ensure_route "${ROUTES[2]}"; }

ensure_route() {
  local wanted_key="$1" what="route $1" key id='' now='' wanted rest
  local -a settings=(--target "integrations/$INTEGRATION_ID" --authorization-type NONE)
  wanted="integrations/$INTEGRATION_ID"$'\t'"NONE"$'\t'"None"
  if [[ -n "$JWT_ISSUER" ]]; then
    settings=(--target "integrations/$INTEGRATION_ID" --authorization-type JWT
      --authorizer-id "$AUTHORIZER_ID")
    wanted="integrations/$INTEGRATION_ID"$'\t'"JWT"$'\t'"$AUTHORIZER_ID"
  fi
  if found routes; then
    while IFS=$'\t' read -r key rest; do
      if [[ "$key" == "$wanted_key" ]]; then
        id="${rest%%$'\t'*}"
        now="${rest#*$'\t'}"
      fi
    done <"$WORK/routes"
  fi
  if [[ -z "$id" ]]; then
    change apigatewayv2 create-route --api-id "$API_ID" --route-key "$wanted_key" \
      "${settings[@]}" >/dev/null
    created "$what"
  elif [[ "$now" != "$wanted" ]]; then
    change apigatewayv2 update-route --api-id "$API_ID" --route-id "$id" "${settings[@]}" >/dev/null
    updated "$what" "${now//$'\t'/ } -> ${wanted//$'\t'/ }"
  else
    unchanged "$what"
  fi
}

# The stage comes after the routes, since its limit for POST /tasks names one of them.
ensure_stage() {
  local what="stage \$default of $API_NAME" difference
  if ! found stage; then
    change apigatewayv2 create-stage --api-id "$API_ID" \
      --cli-input-json "file://$WORK/stage.json" >/dev/null
    created "$what" "$POST_THROTTLE_RATE POSTs a second"
    return
  fi
  difference="$(drift "$WORK/stage.json" "$WORK/stage")"
  if [[ -n "$difference" ]]; then
    change apigatewayv2 update-stage --api-id "$API_ID" \
      --cli-input-json "file://$WORK/stage.json" >/dev/null
    updated "$what" "$difference"
  else
    unchanged "$what"
  fi
}

# Without this permission every request is answered with a bare 500.
ensure_permission() {
  local what="permission of $API_NAME to invoke $API_FUNCTION_NAME" sid="$API_NAME" difference=''
  local source="arn:$PARTITION:execute-api:$AWS_REGION:$ACCOUNT:$API_ID/*/*"
  local -a grant=(--function-name "$API_FUNCTION_NAME" --statement-id "${sid//[ .]/-}")
  if found api-permissions; then
    json statement "$WORK/api-permissions" "${sid//[ .]/-}" >"$WORK/permission"
    document permission <<END
{
  "Effect": "Allow",
  "Principal": {"Service": "apigateway.amazonaws.com"},
  "Action": "lambda:InvokeFunction",
  "Condition": {"ArnLike": {"AWS:SourceArn": "$source"}}
}
END
    difference="$(drift "$WORK/permission.json" "$WORK/permission")"
    if [[ -z "$difference" ]]; then
      unchanged "$what"
      return
    fi
    if [[ "$(<"$WORK/permission")" == null ]]; then
      difference=''
    else
      change lambda remove-permission "${grant[@]}"
    fi
  fi
  change lambda add-permission "${grant[@]}" --action lambda:InvokeFunction \
    --principal apigateway.amazonaws.com --source-arn "$source" >/dev/null
  if [[ -n "$difference" ]]; then
    updated "$what" "$difference"
  else
    created "$what"
  fi
}

# ---- tasks from before the index ----------------------------------------------------------------

# A table without the index is listed by a scan. Its tasks get an owner first and the index comes
# last, so that a run that is interrupted in between starts over with the owners.
ensure_index() {
  local what="index $INDEX_NAME of $DYNAMODB_TABLE_NAME"
  local -a now
  found table || return 0
  mapfile -t now <<<"$(
    fields "$WORK/table" Index.IndexStatus Index.KeySchema.0.AttributeName \
      Index.KeySchema.1.AttributeName
  )"
  if [[ -z "${now[0]}" ]]; then
    give_tasks_an_owner
    change dynamodb update-table --cli-input-json "file://$WORK/index.json" >/dev/null
    created "$what" 'until AWS has filled it, tasks are listed by a scan'
    return
  fi
  [[ "${now[1]} ${now[2]:-}" == 'owner created_at' ]] || die "$what has other keys than owner and" \
    "created_at. Delete it (aws dynamodb update-table) and run this again."
  [[ "$BACKFILL" != true ]] || give_tasks_an_owner
  if [[ "${now[0]}" == ACTIVE ]]; then
    unchanged "$what"
  else
    say "$what: unchanged (AWS is still filling it, until then tasks are listed by a scan)"
  fi
}

# Whoever deletes or writes a task at the same moment cancels the transaction that it is in, so
# this looks again until no task is left. Parts of long answers (ids with #) are not tasks.
give_tasks_an_owner() {
  local round left total=0 file
  for round in 1 2 3 4 5 0; do
    look_tasks_without_owner
    left="$(json owners "$WORK/ownerless" "$DYNAMODB_TABLE_NAME" "$WORK")"
    ((round != 1)) || total="$left"
    ((left > 0 && round > 0)) || break
    for file in "$WORK"/owners-*.json; do
      give_owner "$file"
      rm "$file"
    done
    [[ "$DRY_RUN" != true ]] || break
  done
  if ((total > 0)); then
    updated "tasks from before the index" "$total without an owner are now owned by public"
  fi
  ((left == 0)) || [[ "$DRY_RUN" == true ]] \
    || die "$left tasks could not be given an owner, since something else keeps writing them."
}

look_tasks_without_owner() {
  look ownerless ResourceNotFoundException dynamodb scan --table-name "$DYNAMODB_TABLE_NAME" \
    --consistent-read --projection-expression id --query 'Items[].id.S' \
    --filter-expression 'attribute_not_exists(#owner) AND NOT contains(id, :part)' \
    --expression-attribute-names '{"#owner": "owner"}' \
    --expression-attribute-values '{":part": {"S": "#"}}'
}

give_owner() {
  [[ "$DRY_RUN" != true ]] || return 0
  if aws_cli dynamodb transact-write-items --cli-input-json "file://$1" \
    >/dev/null 2>"$WORK/owners.error"; then
    return
  fi
  if [[ "$(<"$WORK/owners.error")" != *'(TransactionCanceledException)'* ]]; then
    explain "$(<"$WORK/owners.error")" 'dynamodb transact-write-items'
    exit 1
  fi
}

# ---- alarms -------------------------------------------------------------------------------------

# Outcomes that are handled are no errors to Lambda, so they are counted from the log lines.
# One a line: function | metric | pattern
metric_filters() {
  cat <<END
$WORKER_FUNCTION_NAME|TasksFailed|{ (\$.outcome = "error") || (\$.outcome = "lost") }
$WORKER_FUNCTION_NAME|TasksExpired|{ \$.outcome = "expired" }
$API_FUNCTION_NAME|TasksFailed|{ \$.outcome = "dispatch_failed" }
$API_FUNCTION_NAME|TasksExpired|{ \$.outcome = "expired" }
END
}

# One a line: name | namespace | metric | dimension | value | statistic | threshold | meaning
alarms() {
  local api="FunctionName|$API_FUNCTION_NAME" worker="FunctionName|$WORKER_FUNCTION_NAME"
  cat <<END
tasks-failed|$NAME_PREFIX|TasksFailed|||Sum|1|A task ended as error: see error_message and the logs.
tasks-expired|$NAME_PREFIX|TasksExpired|||Sum|1|A task passed its deadline: its worker died or never ran.
worker-errors|AWS/Lambda|Errors|$worker|Sum|1|The worker crashed, ran out of time or lost an answer.
worker-throttles|AWS/Lambda|Throttles|$worker|Sum|1|Tasks wait, since no more workers may run.
worker-event-age|AWS/Lambda|AsyncEventAge|$worker|Maximum|300000|Tasks wait 5 minutes for a worker; after 15 they fail.
worker-events-dropped|AWS/Lambda|AsyncEventsDropped|$worker|Sum|1|A task was given up before a worker took it.
api-throttles|AWS/Lambda|Throttles|$api|Sum|1|Requests are refused, since no more API functions may run.
api-5xx|AWS/ApiGateway|5xx|ApiId|$API_ID|Sum|1|The API answered a request with a server error.
END
}

look_alarms() {
  local -a names
  [[ -n "$ALARM_TOPIC_ARN" ]] || return 0
  mapfile -t names <<<"$(alarms | sed "s/|.*//; s/^/$NAME_PREFIX-/")"
  look alarms ResourceNotFound cloudwatch describe-alarms --alarm-names "${names[@]}" \
    --query MetricAlarms
}

look_worker_filters() { look_filters worker "$WORKER_FUNCTION_NAME"; }
look_api_filters() { look_filters api "$API_FUNCTION_NAME"; }

look_filters() {
  [[ -n "$ALARM_TOPIC_ARN" ]] || return 0
  look "$1-filters" ResourceNotFoundException \
    logs describe-metric-filters --log-group-name "/aws/lambda/$2" --query metricFilters
}

ensure_alarms() {
  case "$ALARM_TOPIC_ARN" in
    '') ;;
    none) side_by_side remove_alarms remove_filters ;;
    *) side_by_side ensure_filters ensure_each_alarm ;;
  esac
}

ensure_filters() {
  local function metric pattern
  while IFS='|' read -r function metric pattern; do
    ensure_filter "$function" "$metric" "${pattern//\"/\\\"}" </dev/null
  done <<<"$(metric_filters)"
}

ensure_filter() {
  local function="$1" metric="$2" pattern="$3" name="$NAME_PREFIX-$2-$1"
  local what="metric filter $name" key="api-filters"
  [[ "$function" != "$WORKER_FUNCTION_NAME" ]] || key="worker-filters"
  document "$name" <<END
{
  "logGroupName": "/aws/lambda/$function",
  "filterName": "$name",
  "filterPattern": "$pattern",
  "metricTransformations": [
    {"metricName": "$metric", "metricNamespace": "$NAME_PREFIX", "metricValue": "1"}
  ]
}
END
  put_if_different "$what" "$key" filterName "$name" logs put-metric-filter
}

ensure_each_alarm() {
  local name namespace metric dimension value statistic threshold meaning dimensions
  while IFS='|' read -r name namespace metric dimension value statistic threshold meaning; do
    dimensions="${dimension:+{\"Name\": \"$dimension\", \"Value\": \"$value\"\}}"
    document "$NAME_PREFIX-$name" <<END
{
  "AlarmName": "$NAME_PREFIX-$name",
  "AlarmDescription": "$meaning",
  "AlarmActions": ["$ALARM_TOPIC_ARN"],
  "Namespace": "$namespace",
  "MetricName": "$metric",
  "Dimensions": [$dimensions],
  "Statistic": "$statistic",
  "Period": 300,
  "EvaluationPeriods": 1,
  "Threshold": $threshold,
  "ComparisonOperator": "GreaterThanOrEqualToThreshold",
  "TreatMissingData": "notBreaching"
}
END
    put_if_different "alarm $NAME_PREFIX-$name" alarms AlarmName "$NAME_PREFIX-$name" \
      cloudwatch put-metric-alarm </dev/null
  done <<<"$(alarms)"
}

# put_if_different RESOURCE LOOKED-UP KEY NAME COMMAND...: for what AWS replaces as a whole.
put_if_different() {
  local what="$1" looked_up="$2" key="$3" name="$4" difference=''
  shift 4
  printf 'null' >"$WORK/$name.now"
  if found "$looked_up"; then
    json pick "$WORK/$looked_up" "$key" "$name" >"$WORK/$name.now"
  fi
  if [[ "$(<"$WORK/$name.now")" != null ]]; then
    difference="$(drift "$WORK/$name.json" "$WORK/$name.now")"
    if [[ -z "$difference" ]]; then
      unchanged "$what"
      return
    fi
  fi
  change "$@" --cli-input-json "file://$WORK/$name.json"
  if [[ -n "$difference" ]]; then
    updated "$what" "$difference"
  else
    created "$what"
  fi
}

remove_alarms() {
  local -a names
  found alarms || return 0
  mapfile -t names <<<"$(json names "$WORK/alarms" AlarmName)"
  [[ -n "${names[0]}" ]] || return 0
  change cloudwatch delete-alarms --alarm-names "${names[@]}"
  removed "alarms ${names[*]}"
}

remove_filters() {
  local function metric name
  while IFS='|' read -r function metric _; do
    name="$NAME_PREFIX-$metric-$function"
    if grep -qs "\"$name\"" "$WORK/worker-filters" "$WORK/api-filters"; then
      change logs delete-metric-filter --log-group-name "/aws/lambda/$function" \
        --filter-name "$name" </dev/null
      removed "metric filter $name"
    fi
  done <<<"$(metric_filters)"
}

# ---- the check ----------------------------------------------------------------------------------

# A new API takes some seconds to be known everywhere, so it is asked a few times.
verify_api() {
  local pause
  local -a answer
  for pause in 1 2 3 4 5 0; do
    mapfile -t answer <<<"$(json ask "$API_URL/tasks?limit=1")"
    case "${answer[0]} ${answer[1]:-}" in
      '200 ['*)
        say "The API answers: GET /tasks gave a list."
        return
        ;;
      401*)
        say "The API answers, and asks for a token."
        return
        ;;
      *) ;;
    esac
    sleep "$pause"
  done
  say "error: GET $API_URL/tasks got ${answer[0]/#0/no answer}: ${answer[1]:-}"
  what_to_look_at "${answer[0]}"
  exit 1
}

# what_to_look_at STATUS: the likely reason, most likely first.
what_to_look_at() {
  local tail="aws logs tail /aws/lambda/$API_FUNCTION_NAME --since 10m --region $AWS_REGION"
  case "$1" in
    0) say "Nothing answered: is there a network, and does it let you reach the URL?" ;;
    403) say "The gateway refused: look at the API's settings (aws apigatewayv2 get-api)." ;;
    404) say "The gateway knows no such route or stage: a run without --verify makes them." ;;
    429) say "Requests are throttled: wait, or raise --throttle-rate and --throttle-burst." ;;
    503) say "No function may run: look at its reserved concurrency (--api-concurrency)." ;;
    *)
      say "Either the gateway may not invoke $API_FUNCTION_NAME (a run without --verify mends" \
        "that), or the function fails. Its log says why: $tail"
      ;;
  esac
}

# Asks the deployed API, and does nothing else.
verify_only() {
  look_api
  read_api
  [[ -n "$API_ID" ]] || die "there is no API named $API_NAME in $AWS_REGION."
  verify_api
  printf '%s\n' "$API_URL"
}

# ---- the run ------------------------------------------------------------------------------------

make_work_directory() {
  WORK="$(mktemp -d "${TMPDIR:-/tmp}/valro.XXXXXX")"
  trap clean_up EXIT
  trap interrupted INT TERM HUP
  : >"$WORK/changes"
}

clean_up() {
  local status=$?
  rm -rf "$WORK"
  if ((status == 1)); then
    say 'Not everything is done. Mend what the error above says and run this again: it goes on' \
      'where it stopped.'
  fi
}

interrupted() {
  trap '' INT TERM HUP
  say 'interrupted: finishing the calls under way'
  # shellcheck disable=SC2046 # one process id a word
  kill $(jobs -p) 2>/dev/null || true
  wait
  say 'error: interrupted. Run this again: it goes on where it stopped.'
  exit 130
}

read_identity() {
  local arn
  IFS=$'\t' read -r ACCOUNT arn <"$WORK/identity"
  PARTITION="${arn#arn:}"
  PARTITION="${PARTITION%%:*}"
}

read_api() {
  API_ID="$(fields "$WORK/apis" 0.ApiId)"
  API_URL="$(fields "$WORK/apis" 0.ApiEndpoint)"
}

main() {
  check_bash
  parse_options "$@"
  check_tools
  set_defaults
  check_settings
  make_work_directory
  API_ID=''
  if [[ "$VERIFY" == true ]]; then
    verify_only
    return
  fi
  ask_for_agent_arn
  check_agent_arn

  side_by_side look_identity ensure_zips
  read_identity
  read_zip_facts
  side_by_side look_table look_worker_role look_api_role look_worker_function look_api_function \
    look_log_groups look_gateway look_alarms look_worker_filters look_api_filters
  refuse_to_become_public
  read_api
  describe_wanted_state

  side_by_side ensure_table ensure_worker ensure_api_role ensure_worker_logs ensure_api_logs
  side_by_side ensure_api_function ensure_gateway
  read_api
  side_by_side finish_worker finish_api remove_authorizer ensure_index ensure_alarms
  finish
}

finish() {
  if [[ ! -s "$WORK/changes" ]]; then
    say 'Nothing had to be changed.'
  elif [[ "$DRY_RUN" == true ]]; then
    say 'This was a dry run: nothing was changed.'
  elif [[ "$NO_VERIFY" != true ]]; then
    verify_api
  fi
  if [[ -z "$JWT_ISSUER" ]]; then
    say "warning: this API is public: anybody who knows its URL can start agents and read every" \
      "task. --jwt-issuer and --jwt-audience make it ask for a token."
  fi
  if [[ -n "$API_URL" ]]; then
    say "Try it: curl -X POST $API_URL/tasks -H 'content-type: application/json' \\"
    say "  -d '{\"description\": \"Find me a landscaper in Charlotte under \$300\"}'"
    printf '%s\n' "$API_URL"
  fi
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  main "$@"
fi
