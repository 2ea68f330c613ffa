#!/bin/sh
# Usage: sh deploy/packaging/module-path.sh host/owner/signetd
#
# Renames this Go module: in go.mod, in imports, and wherever a test, a document, the
# linter's config or an example names the module or one of its packages. A second run
# with the same path changes nothing. It commits nothing; `git diff` shows the change.
set -eu
cd "$(dirname "$0")/../.."

new=${1:-}
old=$(awk '$1 == "module" { print $2; exit }' go.mod)

refuse() {
	echo "module-path: $new: $1: say MODULE=host/owner/signetd" >&2
	exit 2
}

# The go command fetches a path only if its first part is a host name with a dot, and
# golang.org/ref/mod#go-mod-file-ident says which characters a part may have.
case $new in
*[!A-Za-z0-9._~/-]*) refuse "characters that no module path has" ;;
esac
part='[A-Za-z0-9_-]([A-Za-z0-9._~-]*[A-Za-z0-9_~-])?'
printf '%s\n' "$new" | grep -Eqx "[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z]{2,}(/$part)+" || refuse "no module path that go get can fetch"
case "/$new/" in
*..*) refuse "two dots in a row" ;;
*/internal/* | */vendor/* | */testdata/*) refuse "no other module could import it" ;;
esac

[ "$new" != "$old" ] || exit 0

# A package is the old path and one of our folders, with nothing before it that would
# make it a part of a file name such as /etc/signetd/daemon. Elsewhere signetd is the
# name of the program, and stays.
folders=$(go list -f '{{.ImportPath}}' ./... | sed "s|^$old/||; s|/.*||" | sort -u | paste -sd '|' -)
escaped=$(printf '%s' "$old" | sed 's/[.]/\\./g')
package="(^|[^A-Za-z0-9_./~-])$escaped/($folders|\.\.\.)"

find . \( -name .git -o -name node_modules -o -path ./build \) -prune -o -type f -print |
	xargs grep -lIE "$package" |
	while read -r file; do
		sed -E "s#$package#\1$new/\2#g" "$file" >"$file.new"
		cat "$file.new" >"$file" # and keep its mode
		rm "$file.new"
	done

go mod edit -module "$new"
example=deploy/examples/go/go.mod
sed -E "s#(^|[^A-Za-z0-9_./~-])$escaped( v| =>)#\1$new\2#" $example >$example.new
mv $example.new $example
go mod edit -fmt $example

# gofmt sorts the imports of a group by their paths.
gofmt -w .
