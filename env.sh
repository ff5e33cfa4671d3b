# For bash and zsh: `source env.sh`, from any folder. Then, in this folder, TorchServe works as
# its manual says:
#
#   torchserve --start --models all
#   torchserve --stop
#
# The server's temporary files, logs and process number are this checkout's own, so that `--stop`
# stops this one server and no other. `deactivate` takes everything back.

if [ -n "${BASH_VERSION-}" ]; then
    _marwright_file=${BASH_SOURCE[0]}
    [ "$_marwright_file" != "$0" ] || _marwright_file=
elif [ -n "${ZSH_VERSION-}" ]; then
    # In quotes, for bash cannot read it.
    eval '_marwright_file=${(%):-%x}'
    case ${ZSH_EVAL_CONTEXT-} in *:file*) ;; *) _marwright_file= ;; esac
else
    _marwright_file=
fi

# A function, so that it can stop half way without closing the shell that sources it.
_marwright_activate() {
    if [ -z "$_marwright_file" ]; then
        echo "env.sh: source it from bash or zsh: source env.sh" >&2
        return 1
    fi
    local root java temp
    root=$(CDPATH='' cd -P -- "$(dirname -- "$_marwright_file")" && pwd) || return 1
    if ! [ -x "$root/.venv/bin/torchserve" ]; then
        echo "env.sh: $root/.venv is not set up: run \`make setup\` in $root" >&2
        return 1
    fi
    # All that can fail comes before all that changes the shell.
    java=$(_marwright_ask marwright.serve.java) || return 1
    temp=$(_marwright_ask marwright.serve.folders build/serve/shell/tmp) || return 1
    (umask 077 && mkdir -p -- "$root/build/serve/shell/logs") || return 1

    _marwright_restore
    . "$root/.venv/bin/activate" || return 1
    _marwright_save
    # Both shells print a function as its name and its body: this is venv's under another name.
    eval "_marwright_venv_$(typeset -f deactivate)"
    deactivate() {
        _marwright_restore
        _marwright_venv_deactivate "$@"
        unset -f _marwright_venv_deactivate _marwright_restore
    }

    umask 077 # the key file and the logs are for nobody else
    export JAVA_HOME=$java
    # TorchServe told of a file reads none of its own snapshots in that file's place.
    export TS_CONFIG_FILE=$root/config.properties
    export TMPDIR=$temp TEMP=$temp
    export LOG_LOCATION=$root/build/serve/shell/logs
    export METRICS_LOCATION=$LOG_LOCATION
    export LOG4J_CONFIGURATION_FILE=$root/src/marwright/serve/log4j2.xml
    # A worker puts it before the archive's own code: what is broken would run here all the same.
    unset PYTHONPATH
    if [ -z "$(ls "$root/model_store" 2>/dev/null)" ]; then
        echo "env.sh: ready, but there is no archive to serve yet: run \`make archive\`" >&2
    fi
}

_marwright_ask() (
    CDPATH='' cd -- "$root" && unset PYTHONPATH && exec .venv/bin/python -m "$@"
)

# Remembers for each variable whether it was set, and to what.
_marwright_save() {
    local name
    _marwright_umask=$(umask)
    for name in JAVA_HOME TS_CONFIG_FILE TMPDIR TEMP LOG_LOCATION METRICS_LOCATION \
        LOG4J_CONFIGURATION_FILE PYTHONPATH; do
        eval "[ -z \"\${$name+set}\" ] || _marwright_$name=\$$name"
    done
}

# Takes back what an earlier activation did, if there was one.
_marwright_restore() {
    [ -n "${_marwright_umask-}" ] || return 0
    local name
    umask "$_marwright_umask"
    unset _marwright_umask
    for name in JAVA_HOME TS_CONFIG_FILE TMPDIR TEMP LOG_LOCATION METRICS_LOCATION \
        LOG4J_CONFIGURATION_FILE PYTHONPATH; do
        unset "$name"
        eval "[ -z \"\${_marwright_$name+set}\" ] || export $name=\"\$_marwright_$name\""
        unset "_marwright_$name"
    done
}

_marwright_clean() {
    unset -f _marwright_activate _marwright_ask _marwright_save _marwright_clean
    unset _marwright_file
}

if _marwright_activate; then
    _marwright_clean
else
    _marwright_clean
    false
fi
