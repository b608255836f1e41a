# Sourced by the other scripts: where things are, and an environment that holds nothing foreign.
# Leaves: root (the checkout), distro, venv, and whatever arguments it did not know in rest=().

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() {
    printf '%s: %s\n' "scripts/$(basename "$0")" "$*" >&2
    exit 1
}

say() {
    printf '== %s\n' "$*" >&2
}

# parse_common ARGS...: --distro and --venv are understood by every script.
parse_common() {
    distro=jazzy venv= rest=()
    while [ $# -gt 0 ]; do
        case $1 in
            --distro=* | --venv=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        esac
        case $1 in
            --distro | --venv)
                [ $# -ge 2 ] || die "$1 needs a value"
                if [ "$1" = --distro ]; then distro=$2; else venv=$2; fi
                shift 2
                ;;
            *) rest+=("$1") && shift ;;
        esac
    done
    case $distro in
        jazzy | kilted) ;;
        *) die "unknown distro '$distro': expected jazzy or kilted" ;;
    esac
    if [ -z "$venv" ]; then
        venv=$root/.venv/$distro
    elif [ "${venv#/}" = "$venv" ]; then
        venv=$PWD/$venv
    fi
}

# A sourced ROS installation or another environment of wheels must not be mixed with this one.
leave_other_environments() {
    if [ -n "${AMENT_PREFIX_PATH:-}${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}" ]; then
        unset LD_LIBRARY_PATH
    fi
    unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV
    unset _ROS_WHEELS_BOOTSTRAP_COMPLETE RMW_IMPLEMENTATION
    # Packages in ~/.local would be preferred to the environment's.
    export PYTHONNOUSERSITE=1
}

# What a sourced setup file would set on a robot, for the pip environment in $venv.
enter_environment() {
    export AMENT_PREFIX_PATH=$venv ROS_DISTRO=$distro PATH=$venv/bin:$PATH
    local profile=$venv/share/seg_perception/config/dds/fastdds.xml
    # Kilted still reads the older name, but warns about it in every process.
    if [ "$distro" = jazzy ]; then
        export FASTRTPS_DEFAULT_PROFILES_FILE=${FASTRTPS_DEFAULT_PROFILES_FILE:-$profile}
    else
        export FASTDDS_DEFAULT_PROFILES_FILE=${FASTDDS_DEFAULT_PROFILES_FILE:-$profile}
    fi
}
