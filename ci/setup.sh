#!/bin/sh
# Makes .venv hold what requirements.lock says. `make setup` runs it, and `make lock`.
#
#     sh ci/setup.sh        fills .venv
#     sh ci/setup.sh lock   writes requirements.lock from the ranges in pyproject.toml
#
# It needs Python 3.11 to 3.13 with its venv module, and a package index that pip and uv reach
# as they are configured on this machine. Three files in .venv say how far a set-up came:
#
#     .installed    the lock that is installed, whole. Written last; Make's stamp is its time.
#     .unfinished   there while a set-up runs. Who finds it starts over: an installer that was
#                   killed leaves packages that look whole to the next one.
#     .torch        "cpu" after TORCH=cpu
set -eu

venv=.venv
lock=requirements.lock
python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

# A supported Python that this machine does have, to name in a message.
another_python() {
    for name in python3.13 python3.12 python3.11; do
        if supported "$(version_of "$name")"; then
            printf '; this machine has %s: make setup PYTHON=%s' "$name" "$name"
            return
        fi
    done
    printf ': make setup PYTHON=/path/to/python3.12'
}

supported() {
    case $1 in
    3.11.* | 3.12.* | 3.13.*) return 0 ;;
    *) return 1 ;;
    esac
}

check_python() {
    version=$(version_of "$python") ||
        die "$python does not run: Python 3.11, 3.12 or 3.13 is needed$(another_python)"
    supported "$version" ||
        die "$python is Python $version, and 3.11, 3.12 or 3.13 is needed$(another_python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python lacks the venv module: install it (Debian and Ubuntu: apt install" \
            "python${version%.*}-venv), then make again"
}

# Two set-ups at once would install over each other. The system drops the lock with its last
# holder, so that a set-up whose shell was killed still keeps others out until its installer ends.
wait_for_turn() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9<"$0"
    if ! flock -n 9; then
        say "another set-up is at work here; waiting for it"
        flock 9 || say "this file system cannot lock; going on without"
    fi
}

# What the lock pins uv to, with its hashes, as a requirements file.
pinned_uv() { awk '/^[^ #]/ { ours = /^uv==/ } ours' "$lock"; }

# --ignore-installed: what a killed pip leaves has no list of files to remove.
pip_install() {
    pip_python=$1/bin/python
    shift
    "$pip_python" -m pip install --quiet --disable-pip-version-check --no-user --no-deps \
        --ignore-installed "$@" ||
        die "pip could not install uv: see its message above; it uses this machine's pip settings"
}

install_uv() {
    want=$(pinned_uv | sed -n '1s/^uv==\([^ ]*\).*/\1/p')
    [ -n "$want" ] || die "$lock does not pin uv: git checkout $lock, or make lock"
    case $("$venv/bin/uv" --version 2>/dev/null) in
    "uv $want" | "uv $want "*) return 0 ;;
    esac
    say "installing uv $want, which installs the rest"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        "$venv/bin/python" -m ensurepip --default-pip >/dev/null
    pinned_uv >"$venv/.uv"
    pip_install "$venv" --require-hashes -r "$venv/.uv"
}

# The lock without the CUDA libraries, and without the hashes of what PyTorch's own index serves.
cpu_lock() {
    awk '
        /^[^ #]/ {
            name = $1
            sub(/==.*/, "", name)
            cuda = name ~ /^(nvidia-.*|cuda-.*|triton)$/
            bare = name ~ /^(torch|torchvision)$/
        }
        cuda || bare && /^ / { next }
        bare { sub(/ *\\$/, "") }
        { print }
    ' "$lock"
}

install_lock() {
    # Compiled now, or every first import of torch takes twice as long.
    set -- pip sync --python "$venv/bin/python" --compile-bytecode
    # On a terminal uv draws the progress of long downloads; elsewhere it would list each package.
    [ -t 2 ] || set -- "$@" --quiet
    # Both builds of torch have the version that the lock asks for: uv would keep the other one.
    [ "$torch" = "$installed_torch" ] ||
        set -- "$@" --reinstall-package torch --reinstall-package torchvision
    if [ "$torch" = cpu ]; then
        cpu_lock >"$venv/.cpu"
        say "TORCH=cpu: torch and torchvision come from PyTorch's own index, where the lock's" \
            "hashes do not hold: these two are not checked, all others are"
        set -- "$@" --torch-backend cpu "$venv/.cpu"
    else
        unset UV_TORCH_BACKEND
        set -- "$@" --require-hashes "$lock"
    fi
    say "installing what $lock pins; the first time downloads gigabytes"
    "$venv/bin/uv" "$@" || {
        [ "$torch" = lock ] || say "to go back to the torch of $lock: make setup TORCH=lock" >&2
        die "uv could not install $lock: see its message above, then make again. uv does not read" \
            "pip's settings: a mirror is named by UV_DEFAULT_INDEX, a proxy by HTTPS_PROXY"
    }
}

# For editing: what is installed is this checkout, under its one name.
install_ours() {
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation \
        --offline --editable . || die "uv could not install this checkout: see its message above"
}

up_to_date() {
    [ ! -e "$venv/.unfinished" ] && cmp -s "$lock" "$venv/.installed" &&
        [ "$torch" = "$installed_torch" ] && [ -x "$venv/bin/python" ]
}

# A Python named on the command line that is not the one of .venv: passing over it in silence would
# look like obeying.
check_same_python() {
    have=$(version_of "$venv/bin/python") || return 0
    want=$(version_of "$python") || die "$python does not run"
    [ "${have%.*}" = "${want%.*}" ] ||
        die "$venv has Python $have, and PYTHON=$python is $want: rm -rf $venv, then make again"
}

mark_unfinished() {
    : >"$venv/.unfinished"
    rm -f "$venv/.installed" # or Make would take the old time for a finished set-up
    printf '%s\n' "$torch" >"$venv/.torch"
}

set_up() {
    [ -f "$lock" ] || die "$lock is missing: git checkout $lock, or make lock"
    wait_for_turn
    installed_torch=$(cat "$venv/.torch" 2>/dev/null) || installed_torch=lock
    torch=${TORCH:-$installed_torch}
    case $torch in cpu | lock) ;; *) die "TORCH is cpu or lock, not $torch" ;; esac
    [ -z "${PYTHON_NAMED:-}" ] || check_same_python
    if up_to_date; then
        touch "$venv/.installed" # a checkout changes the lock's time and not its text
        return
    fi

    if [ -e "$venv/.unfinished" ]; then
        say "the last set-up did not finish: starting $venv over"
        whole=no
    elif [ -e "$venv" ] && ! version_of "$venv/bin/python" >/dev/null; then
        say "$venv has no Python that runs: starting it over"
        whole=no
    fi
    if [ ! -e "$venv" ] || [ "${whole:-}" = no ]; then
        check_python
        say "making $venv with Python $version"
        mkdir -p "$venv"
        mark_unfinished
        # The mark stays while the rest goes, so that a kill in here is seen as well.
        find "$venv/" -mindepth 1 -maxdepth 1 ! -name .unfinished ! -name .torch -exec rm -rf {} +
        "$python" -m venv "$venv" || die "$python could not make $venv: see its message above"
    fi
    mark_unfinished
    install_uv
    install_lock
    install_ours
    cp "$lock" "$venv/.installed.new"
    mv "$venv/.installed.new" "$venv/.installed"
    rm "$venv/.unfinished"
    say "done: make help lists what to do next"
}

# The environment in $scratch is only for a machine that has no uv of ours yet.
uv_for_lock() {
    if "$venv/bin/uv" --version >/dev/null 2>&1; then
        uv=$venv/bin/uv
        return
    fi
    check_python
    "$python" -m venv "$scratch/venv"
    if [ -f "$lock" ]; then
        say "installing uv at the lock's version, for this once"
        pinned_uv >"$scratch/uv"
        pip_install "$scratch/venv" --require-hashes -r "$scratch/uv"
    else
        say "installing uv, for this once; with no lock there is no hash to check it against"
        pip_install "$scratch/venv" uv
    fi
    uv=$scratch/venv/bin/uv
}

write_lock() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    wait_for_turn
    uv_for_lock
    # uv keeps the versions of the file that it is to replace, where the ranges still allow them.
    [ ! -f "$lock" ] || [ -n "${UPGRADE:-}" ] || cp "$lock" "$scratch/$lock"
    say "resolving pyproject.toml for Python 3.11 to 3.13"
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header --all-extras --group dev pyproject.toml \
        -o "$scratch/$lock" >/dev/null || die "uv could not resolve pyproject.toml: see its message above"
    cp "$scratch/$lock" "$lock.new"
    mv "$lock.new" "$lock"
    say "wrote $lock: git diff $lock shows what changed, make setup installs it"
}

case ${1:-} in
'') set_up ;;
lock) write_lock ;;
*) die "unknown: $1" ;;
esac
