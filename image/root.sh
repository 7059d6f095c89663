# root.sh PACKAGES ROOT: unpack Debian packages into a root, as CPython needs them and no more.
#
# Maintainer scripts do not run, so nothing may depend on one: no cache of libraries (the loader
# looks into Debian's own folders without it), no alternatives, no users but those written here.
set -eu
packages=$1 root=$2

# base-files first: it brings the links /bin, /lib and /lib64, which others unpack through.
for package in "$packages"/base-files_*.deb "$packages"/*.deb; do
    dpkg-deb --extract "$package" "$root"
    # What scanners read of an image without dpkg.
    mkdir -p "$root/var/lib/dpkg/status.d"
    name=$(dpkg-deb --field "$package" Package)
    dpkg-deb --field "$package" >"$root/var/lib/dpkg/status.d/$name"
done

cd "$root"
# Licences stay. The rest is documentation, and what a server in UTF-8 never loads.
find usr/share/doc -type f ! -name copyright -delete
rm -rf usr/share/man usr/share/lintian usr/share/info usr/share/bug usr/share/python3 \
    usr/share/applications usr/share/pixmaps usr/share/binfmts usr/share/base-files \
    usr/lib/python3.13/ensurepip usr/lib/python3.13/pydoc_data usr/lib/python3.13/idlelib \
    usr/lib/python3.13/turtledemo usr/lib/x86_64-linux-gnu/gconv usr/lib/aarch64-linux-gnu/gconv
find . -type d -empty -path './usr/share/*' -delete

# Trust, for a Redis behind TLS.
mkdir -p etc/ssl/certs
cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/
mkdir -p usr/lib/ssl
ln -sfn /etc/ssl/certs usr/lib/ssl/certs
ln -sfn /etc/ssl/certs/ca-certificates.crt usr/lib/ssl/cert.pem

echo 'root:x:0:0:root:/nonexistent:/nonexistent
nonroot:x:65532:65532:nonroot:/tmp:/nonexistent' >etc/passwd
echo 'root:x:0:
nonroot:x:65532:' >etc/group
echo 'hosts: files dns' >etc/nsswitch.conf
chmod 1777 tmp

# "unchecked": whatever becomes of the sources' times, the bytecode is taken.
python3.13 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -s "$root" -p / usr/lib/python3.13
