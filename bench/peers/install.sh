#!/bin/sh
# Installs the systems that `quorate bench` compares with: servers from Debian's packages, and into the virtual
# environment VENV the load generators that are built here. Usage: install.sh VENV; `make install-peers` does it.
# What cannot be installed is said, with what to do about it, and the rest is done all the same; the code is 1 then.
set -eu
venv=$1
here=$(cd "$(dirname "$0")" && pwd)
packages="etcd-server zookeeper nats-server default-jdk-headless"
services="etcd nats-server"
status=0

lack() {
	echo "install-peers: $1" >&2
	status=1
}

is_installed() {
	test "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed
}

# Services that packages would start, and that were not there before, neither start nor stay enabled.
install_packages() {
	policy=/usr/sbin/policy-rc.d
	if ! test -e "$policy"; then
		trap 'rm -f "$policy"' EXIT
		trap 'exit 1' HUP INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
	for service in $services; do
		case " $* " in
		*" $service "* | *" $service-server "*)
			if test -d /run/systemd/system; then systemctl disable --now "$service"; fi
			if command -v update-rc.d >/dev/null; then update-rc.d "$service" disable >/dev/null 2>&1 || true; fi
			;;
		esac
	done
}

wanted=
for package in $packages; do
	is_installed "$package" || wanted="$wanted $package"
done
if test -n "$wanted"; then
	if ! command -v apt-get >/dev/null; then
		lack "this is no Debian: install what corresponds to$wanted"
	elif test "$(id -u)" != 0; then
		lack "only root can install servers: apt-get install$wanted"
	else
		# shellcheck disable=SC2086
		install_packages $wanted || lack "apt-get could not install$wanted"
	fi
fi

mkdir -p "$venv/peers"
target=$(cd "$venv/peers" && pwd)
if command -v go >/dev/null; then
	echo "building the load generator in Go"
	(cd "$here/native/etcd" && go build -trimpath -buildvcs=false -o "$target/etcd-load" .) || lack "the load generator in Go is not built"
else
	lack "etcd's load generator needs Go 1.21 or newer"
fi

jars=${ZOOKEEPER_JARS:-/usr/share/java}
if command -v javac >/dev/null && test -e "$jars/zookeeper.jar"; then
	echo "building the load generator in Java"
	javac -d "$target/zookeeper-load" -cp "$jars/zookeeper.jar:$jars/zookeeper-jute.jar" "$here"/native/zookeeper/*.java ||
		lack "the load generator in Java is not built"
else
	lack "ZooKeeper's load generator needs javac and $jars/zookeeper.jar: apt-get install default-jdk-headless zookeeper"
fi
exit $status
