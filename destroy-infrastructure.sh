#!/usr/bin/env bash
#
# Usage: ./destroy-infrastructure.sh [option...]
#
# Removes what create-infrastructure.sh made, and nothing else: the stack, then its zips. The table
# with the tasks is kept unless --delete-data is given. It says what it found and asks before it
# removes anything. A task that is being worked on is cut off, and its agent may go on by itself.
# Run again, it removes what is left.
#
#   --yes                        do not ask; required where nobody can answer
#   --delete-data                delete the table too, with all tasks; since point-in-time recovery
#                                was on, AWS keeps one last backup for 35 days
#   --dry-run                    say what would be removed, and remove nothing
#   --aws-region REGION          or --region; default as for create-infrastructure.sh
#   --name-prefix PREFIX         which stack (default: valro)
#   --dynamodb-table-name NAME   which table, once the stack is gone (default: PREFIX-tasks)
#   --help                       print this
#
# Every option is an environment variable too. Exit status: 0 done; 1 something failed, or the answer
# was no; 2 wrong options.

set -euo pipefail

# shellcheck source=create-infrastructure.sh
source "$(dirname "${BASH_SOURCE[0]}")/create-infrastructure.sh"

FLAGS=(yes delete-data dry-run)
SETTINGS=(aws-region)
list_parameters() { printf '%s\t%s\t0\t\n' name-prefix NamePrefix dynamodb-table-name DynamodbTableName; }
usage() { sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; }

# Where nobody can answer, only --yes is a yes.
ask_first() {
  local answer
  [[ "${YES:-}" != true ]] || return 0
  [[ -t 0 ]] || wrong_usage 'nobody is here to ask, so give --yes. Nothing was removed.'
  read -r -p 'Remove all this? [y/N] ' answer
  [[ "${answer,,}" == y || "${answer,,}" == yes ]] || die 'Nothing was removed.'
}

# The bucket goes with the last stack that has zips in it.
remove_zips() {
  local error
  local -a owner=(--bucket "$1" --expected-bucket-owner "$2")
  if look zips '(NoSuchBucket)' aws_cli s3api list-objects-v2 "${owner[@]}" --prefix "$PREFIX/" --max-items 1000 \
    --output json --query '{Objects: Contents[].{Key: Key}}' && [[ "$(<"$WORK/zips")" == *Key* ]]; then
    aws_cli s3api delete-objects "${owner[@]}" --delete "file://$WORK/zips" >/dev/null
    say "zips in $1: deleted"
  fi
  error="$(aws_cli s3api delete-bucket "${owner[@]}" 2>&1)" \
    || [[ "$error" == *BucketNotEmpty* || "$error" == *NoSuchBucket* ]] || die "$error"
}

remove_table() {
  aws_cli dynamodb delete-table --table-name "$1" >/dev/null
  aws_cli dynamodb wait table-not-exists --table-name "$1"
  say "table $1: deleted"
}

destroy() {
  local table account='' bucket='' word=kept
  : "${YES:=}" "${DELETE_DATA:=}"
  read_environment
  parse_options "$@"
  set_defaults
  look_at_stack
  table="${STACK[DynamodbTableName]:-${GIVEN[DynamodbTableName]:-$PREFIX-tasks}}"
  if [[ -n "${STACK[StackId]:-}" ]]; then
    account="$(cut -d : -f 5 <<<"${STACK[StackId]}")"
    say "In account $account, region $AWS_REGION: the stack $STACK_NAME, with"
    cloudformation list-stack-resources --query \
      "StackResourceSummaries[?LogicalResourceId != 'Table'].[ResourceType, PhysicalResourceId]" \
      | sed 's/^AWS::/  /' >&2
  fi
  if look table ResourceNotFoundException aws_cli dynamodb describe-table --table-name "$table" \
    --query Table.ItemCount; then
    [[ "$DELETE_DATA" != true ]] || word="WITH ALL ITS TASKS (about $(<"$WORK/table") items)"
    say "  table $table: $word"
  else
    DELETE_DATA=''
  fi
  if [[ -z "$account" && "$DELETE_DATA" != true ]]; then
    say 'There is nothing to remove.'
    return
  fi
  [[ "$DRY_RUN" != true ]] || return 0
  ask_first
  if [[ -n "$account" ]]; then
    bucket="${STACK[CodeBucket]:-}"
    remove_stack
    [[ -z "$bucket" ]] || remove_zips "$bucket" "$account"
  fi
  [[ "$DELETE_DATA" != true ]] || remove_table "$table"
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  destroy "$@"
fi
