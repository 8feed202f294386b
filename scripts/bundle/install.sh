#!/bin/sh
# Verify a bundle of fedfm and load its images. Needs neither a network nor Python.
#
#   sh install.sh --key FILE [--check] [BUNDLE]
#
# --key FILE   the coordinator's public key, which reached you by another way than the bundle
# --check      verify only; nothing is loaded
# BUNDLE       its folder (default: where this file lies)
#
# Verified, in this order: the signature over SHA256SUMS, that the files are those of the list, none more and none
# less, and every hash; after loading, that each image is the recorded one. At the first fault it stops with a code.
set -eu
LC_ALL=C
export LC_ALL
unset CDPATH # or a cd to "bundle" may go elsewhere

fail() { # code, what, what was found, what to do
    printf '%s %s\n  got: %s\n  fix: %s\n' "$1" "$2" "$3" "$4" >&2
    exit 1
}
usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

key='' check='' bundle=$(dirname "$0")
while [ $# -gt 0 ]; do
    case $1 in
    --key) [ $# -ge 2 ] || usage && key=$2 && shift 2 ;;
    --check) check=yes && shift ;;
    -*) usage ;;
    *) [ $# -eq 1 ] || usage && bundle=$1 && shift ;;
    esac
done
[ -n "$key" ] || usage

need() {
    command -v "$1" >/dev/null 2>&1 || fail SITE-E245 "a program is missing" "no $1" "install $1, or run this elsewhere"
}
for program in openssl sha256sum readlink find sort uniq sed grep; do need "$program"; done
case $(openssl version) in
"OpenSSL "[012].* | LibreSSL*) fail SITE-E245 "openssl is too old for Ed25519 signatures" "$(openssl version)" \
    "use a machine with OpenSSL 3" ;;
esac

# The key
key=$(readlink -f -- "$key") && [ -f "$key" ] && [ -r "$key" ] ||
    fail SITE-E240 "the key cannot be read" "${key:-nothing}" "name the file of the public key"
cd -- "$bundle" 2>/dev/null || fail SITE-E242 "there is no such bundle" "$bundle" "name the folder of the bundle"
case $key in
"$(pwd -P)"/*) fail SITE-E240 "the key came with the bundle, and so says nothing about it" "$key" \
    "get the key from the coordinator by another way" ;;
esac
case $(openssl pkey -pubin -in "$key" -noout -text 2>/dev/null) in
"ED25519 Public-Key:"*) ;;
*) fail SITE-E240 "this is no Ed25519 public key" "$key" "name the .pub file that the coordinator sent" ;;
esac
fingerprint=$(openssl pkey -pubin -in "$key" -outform DER | sha256sum | sed 's/ .*//')

# The list and its signature
[ -f SHA256SUMS ] && [ -f SHA256SUMS.sig ] ||
    fail SITE-E241 "the list of files or its signature is missing" "$(pwd -P)" "get the whole bundle again"
openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
    fail SITE-E241 "the list of files was not signed with this key" "SHA256:$fingerprint" \
        "compare the fingerprint with the coordinator; get the bundle again; install nothing of it"

# The files
other=$(find . ! -type f ! -type d 2>&1) || fail SITE-E242 "a folder cannot be read" "$other" "copy the bundle as a whole"
[ -z "$other" ] || fail SITE-E242 "something that is neither a file nor a folder" "$(echo "$other" | head -n 5)" \
    "get the bundle again; install nothing of it"
listed=$(sed 's/^.\{66\}//' SHA256SUMS | sort)
present=$(find . -type f | sed 's/^\.\///' | grep -v -x -F -e SHA256SUMS -e SHA256SUMS.sig | sort)
[ "$listed" = "$present" ] || fail SITE-E242 "files that are missing, or that do not belong to the bundle" \
    "$(printf '%s\n%s\n' "$listed" "$present" | sort | uniq -u | head -n 5)" "get the bundle again; install nothing of it"
if ! sums=$(sha256sum -c SHA256SUMS 2>&1); then
    fail SITE-E243 "files that were changed, or cannot be read" "$(echo "$sums" | grep -v ': OK$' | head -n 5)" \
        "get the bundle again; install nothing of it"
fi
count=$(echo "$listed" | grep -c .)
echo "OK  $(sed -n 's/^fedfm /fedfm /p' VERSION): $count files, signed with SHA256:$fingerprint"
[ -z "$check" ] || exit 0

# The images
if [ ! -f images.txt ]; then
    echo "This bundle has no images; there is nothing to load."
    exit 0
fi
need docker
loaded=$(docker load -i images.tar.gz 2>&1) || fail SITE-E246 "the images cannot be loaded" "$loaded" \
    "start Docker, and see that this user may use it and that its disk has room"
while read -r id name; do
    found=$(docker image inspect --format '{{.Id}}' "$name" 2>/dev/null </dev/null) || found=nothing
    [ "$found" = "$id" ] || fail SITE-E244 "an image is not the recorded one: $name" "$found, recorded $id" \
        "an engine with containerd's image store numbers images otherwise: turn that off; else start none of these images"
    echo "OK  $name $id"
done <images.txt
echo "Next: docs/how-to/join-as-a-hospital.md"
