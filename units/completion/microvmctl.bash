# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for microvmctl(1)

# The bus or host that the line names is the one whose microVMs are offered.
__microvmctl_where()
{
    local i
    where=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -H|--host|--bus)
                [[ ${COMP_WORDS[i + 1]} == "=" ]] && ((i++))
                [[ ${COMP_WORDS[i]} == -H || ${COMP_WORDS[i - 1]} == --host ]] && where+=(--host "${COMP_WORDS[i + 1]}")
                [[ ${COMP_WORDS[i]} == --bus || ${COMP_WORDS[i - 1]} == --bus ]] && where+=(--bus "${COMP_WORDS[i + 1]}")
                ;;
        esac
    done
}

__microvmctl_names()
{
    local where
    __microvmctl_where
    microvmctl "${where[@]}" --no-legend --no-pager --no-ask-password list 2>/dev/null | while read -r name _; do
        echo "$name"
    done
}

_microvmctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb= i options
    local verbs="list status is-active start stop restart kill pause resume reset-failed console logs reload validate
        plan apply forget-volume cat show version help"
    local common="--bus --host --json --no-pager --no-legend --no-block --quiet --no-ask-password --help --version"

    [[ $cur == "=" ]] && cur=
    [[ $prev == "=" ]] && prev=${COMP_WORDS[COMP_CWORD - 2]}
    COMPREPLY=()

    case $prev in
        --bus)
            COMPREPLY=($(compgen -W "system user" -- "$cur"))
            return
            ;;
        -H|--host)
            COMPREPLY=($(compgen -A hostname -- "$cur"))
            return
            ;;
        --json)
            COMPREPLY=($(compgen -W "off short pretty" -- "$cur"))
            return
            ;;
        -s|--signal)
            COMPREPLY=($(compgen -A signal -- "SIG${cur#SIG}"))
            return
            ;;
        -p|--property)
            COMPREPLY=($(compgen -W "Name State StateReason StateTimestamp Readiness Result LastStop Job Hypervisor Driver
                DriverOnline Accel AccelReason Unit MainPID UUID Generation VCPUs MemoryBytes Autostart StartTimestamp
                ReadyTimestamp NRestarts NextRestartTimestamp Outdated OutdatedReasons Undeclared DefinitionPath" -- "$cur"))
            return
            ;;
        --prune)
            COMPREPLY=($(compgen -W "all" -- "$cur"))
            return
            ;;
        -n|--lines|-b|--boot|--timeout|-l|--label|--max-parallel|--canary)
            return
            ;;
    esac

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -H|--host|--bus|-s|--signal|-p|--property|-n|--lines|-b|--boot|--timeout|-l|--label|--max-parallel)
                [[ ${COMP_WORDS[i + 1]} == "=" ]] && ((i++))
                ((i++))
                ;;
            -*|=) ;;
            *)
                verb=${COMP_WORDS[i]}
                break
                ;;
        esac
    done

    case $verb in
        list|status|is-active|cat|start|pause|resume|reset-failed) options="--all" ;;
        stop) options="--all --force --timeout --host-shutdown" ;;
        restart) options="--all --force --timeout" ;;
        kill) options="--all --signal" ;;
        logs) options="--follow --lines --boot" ;;
        plan) options="--label" ;;
        apply) options="--label --restart --outdated --max-parallel --canary --prune --purge --yes" ;;
        show) options="--all --property --value --definition" ;;
        *) options= ;;
    esac

    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$common $options" -- "$cur"))
    elif [[ -z $verb ]]; then
        COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
    elif [[ $verb == validate ]]; then
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$cur"))
    elif [[ $verb != reload && $verb != version && $verb != help ]]; then
        COMPREPLY=($(compgen -W "$(__microvmctl_names)" -- "$cur"))
    fi
}

complete -F _microvmctl microvmctl
