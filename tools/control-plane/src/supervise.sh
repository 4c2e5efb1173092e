# Becomes the program "$3...", after starting a supervisor beside it.
# $1: tenths of a second between TERM and KILL; $2: the program's log file.
# Standard input is the lifeline: each line is a command, and end of file means that the parent has exited.
# Standard output is a lifeline of something the program needs. The supervisor holds it until the program has exited.
tenths=$1
log=$2
shift 2
exec 3<&0
{
    while read -r command; do
        case $command in
            exited) exit 0 ;;
            *) kill -s "$command" "$$" ;;
        esac
    done
    kill -s CONT "$$"
    kill -s TERM "$$"
    while [ "$tenths" -gt 0 ] && kill -s 0 "$$"; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
    kill -s KILL "$$"
    exit 0
} <&3 2>/dev/null 3<&- &
exec "$@" </dev/null >>"$log" 2>&1 3<&-
