#!/bin/sh
# Attaches dist/ to the release of tag v$VERSION, which is made here if need be. `make publish`.
set -eu

die() {
    printf 'publish: %s\n' "$*" >&2
    exit 1
}

case ${VERSION:-} in
'') die "which version? make publish VERSION=1.2.0" ;;
-* | *[!0-9A-Za-z.+-]*) die "VERSION=$VERSION is not a version: write it like 1.2.0" ;;
esac
command -v gh >/dev/null 2>&1 ||
    die "gh, GitHub's command line, is not on the PATH: install it and run gh auth login"
[ -f dist/SHA256SUMS ] || die "dist/SHA256SUMS is missing: make release VERSION=$VERSION"

# What is uploaded is what was proven: the sums are checked on this side of any hand-over.
if command -v sha256sum >/dev/null 2>&1; then sum=sha256sum; else sum="shasum -a 256"; fi
(cd dist && $sum -c SHA256SUMS >/dev/null) ||
    die "dist/ is not what SHA256SUMS says: make release VERSION=$VERSION"
for file in dist/*; do
    name=${file#dist/}
    [ "$name" = SHA256SUMS ] || cut -c67- dist/SHA256SUMS | grep -qxF -- "$name" ||
        die "$file is not in SHA256SUMS, so nothing proves it: make release VERSION=$VERSION"
done

printf 'publish: uploading dist/ to the release v%s\n' "$VERSION"
exec gh release create "v$VERSION" --verify-tag --generate-notes --title "v$VERSION" dist/*
