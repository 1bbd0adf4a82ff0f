#!/usr/bin/env bash
#
# Usage: ./destroy-infrastructure.sh [option...]
#
# Removes what create-infrastructure.sh made, and nothing else: the HTTP API first, then the
# functions, the alarms, the roles and the log groups. The table with the tasks is kept unless
# --delete-data is given. It says what it found and asks before it removes anything. A task that
# is being worked on is cut off, and its agent may go on by itself.
#
# Run again, it removes what is left, and finds nothing the second time.
#
#   --yes                        do not ask; required where nobody can answer
#   --delete-data                delete the table too, with all tasks; since point-in-time recovery
#                                was on, AWS keeps one last backup for 35 days
#   --dry-run                    say what would be removed, and remove nothing
#   --help                       print this
#
# Which stack, as for create-infrastructure.sh. Every option is an environment variable too
# (--name-prefix is NAME_PREFIX):
#   --aws-region REGION          default: AWS_REGION, AWS_DEFAULT_REGION, the CLI's
#                                configuration, us-east-1
#   --region REGION              the same
#   --name-prefix PREFIX         begins every name below (default: valro)
#   --dynamodb-table-name NAME   default: PREFIX-tasks
#   --api-function-name NAME     default: PREFIX-backend
#   --worker-function-name NAME  default: PREFIX-worker
#   --api-role-name NAME         default: PREFIX-lambda-role
#   --worker-role-name NAME      default: PREFIX-worker-role
#   --api-name NAME              default: PREFIX-api
#
# Exit status: 0 done; 1 something failed, or the answer was no; 2 wrong options.

set -euo pipefail

# shellcheck source=create-infrastructure.sh
source "$(dirname "${BASH_SOURCE[0]}")/create-infrastructure.sh"

VALUE_OPTIONS=(
  aws-region name-prefix dynamodb-table-name api-function-name worker-function-name
  api-role-name worker-role-name api-name
)
FLAG_OPTIONS=(yes delete-data dry-run)

# ---- what is there ------------------------------------------------------------------------------

look_functions() {
  look worker-function ResourceNotFoundException \
    lambda get-function --function-name "$WORKER_FUNCTION_NAME"
  look api-function ResourceNotFoundException \
    lambda get-function --function-name "$API_FUNCTION_NAME"
}

look_at_table() {
  look table ResourceNotFoundException dynamodb describe-table --table-name "$DYNAMODB_TABLE_NAME"
}

# list_findings: one line for each thing that would be removed.
list_findings() {
  [[ -z "$API_ID" ]] || say "  API $API_NAME ($API_ID)"
  ! found api-function || say "  function $API_FUNCTION_NAME"
  ! found worker-function || say "  function $WORKER_FUNCTION_NAME"
  has_alarms && say "  alarms $(json names "$WORK/alarms" AlarmName | tr '\n' ' ')"
  ! found api-role || say "  role $API_ROLE_NAME"
  ! found worker-role || say "  role $WORKER_ROLE_NAME"
  ! has_log_group "$API_FUNCTION_NAME" || say "  log group /aws/lambda/$API_FUNCTION_NAME"
  ! has_log_group "$WORKER_FUNCTION_NAME" || say "  log group /aws/lambda/$WORKER_FUNCTION_NAME"
  if found table && [[ "$DELETE_DATA" == true ]]; then
    say "  table $DYNAMODB_TABLE_NAME WITH ALL ITS TASKS (about" \
      "$(fields "$WORK/table" Table.ItemCount) items)"
  fi
}

has_alarms() {
  [[ -n "$(json names "$WORK/alarms" AlarmName)" ]]
}

has_log_group() {
  grep -q "^/aws/lambda/$1"$'\t' "$WORK/log-groups"
}

nothing_to_remove() {
  [[ -z "$(list_findings 2>&1)" ]]
}

# ---- removing -----------------------------------------------------------------------------------

# Where nobody can answer, only --yes is a yes.
ask_first() {
  local answer
  [[ "$YES" != true && "$DRY_RUN" != true ]] || return 0
  [[ -t 0 ]] || wrong_usage "nobody is here to ask, so give --yes. Nothing was removed."
  read -r -p 'Remove all this? [y/N] ' answer
  [[ "${answer,,}" == y || "${answer,,}" == yes ]] || {
    say 'Nothing was removed.'
    exit 1
  }
}

remove_api() {
  [[ -n "$API_ID" ]] || return 0
  change apigatewayv2 delete-api --api-id "$API_ID"
  removed "API $API_NAME"
}

remove_api_function() { remove_function api "$API_FUNCTION_NAME"; }
remove_worker_function() { remove_function worker "$WORKER_FUNCTION_NAME"; }

remove_function() {
  found "$1-function" || return 0
  change lambda delete-function --function-name "$2" >/dev/null
  removed "function $2"
}

remove_api_role() { remove_role api "$API_ROLE_NAME" "$API_POLICY_NAME"; }
remove_worker_role() { remove_role worker "$WORKER_ROLE_NAME" "$WORKER_POLICY_NAME"; }

# A role goes only without policies, and only our own policy is ours to remove.
remove_role() {
  found "$1-role" || return 0
  if found "$1-role-policy"; then
    change iam delete-role-policy --role-name "$2" --policy-name "$3"
  fi
  change iam delete-role --role-name "$2"
  removed "role $2"
}

remove_api_logs() { remove_log_group "$API_FUNCTION_NAME"; }
remove_worker_logs() { remove_log_group "$WORKER_FUNCTION_NAME"; }

# The metric filters go with their log group.
remove_log_group() {
  has_log_group "$1" || return 0
  change logs delete-log-group --log-group-name "/aws/lambda/$1"
  removed "log group /aws/lambda/$1"
}

remove_table() {
  found table || return 0
  if [[ "$DELETE_DATA" != true ]]; then
    say "table $DYNAMODB_TABLE_NAME: kept, with its tasks (--delete-data deletes it)"
    return
  fi
  change dynamodb delete-table --table-name "$DYNAMODB_TABLE_NAME" >/dev/null
  wait_for dynamodb table-not-exists --table-name "$DYNAMODB_TABLE_NAME"
  removed "table $DYNAMODB_TABLE_NAME"
}

# ---- the run ------------------------------------------------------------------------------------

destroy() {
  check_bash
  parse_options "$@"
  check_tools
  set_defaults
  : "${YES:=}" "${DELETE_DATA:=}"
  check_settings
  make_work_directory
  # The alarms are looked up as for a run that takes them off.
  API_ID='' ALARM_TOPIC_ARN=none

  side_by_side look_identity look_api look_functions look_api_role look_worker_role \
    look_log_groups look_alarms look_at_table
  read_identity
  read_api
  if nothing_to_remove; then
    say 'There is nothing to remove.'
    remove_table
    return
  fi
  say "In account $ACCOUNT, region $AWS_REGION:"
  list_findings
  ask_first
  # First what takes requests, then what works on them, then what those two used.
  remove_api
  side_by_side remove_api_function remove_worker_function remove_alarms
  side_by_side remove_api_role remove_worker_role remove_api_logs remove_worker_logs
  remove_table
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  destroy "$@"
fi
