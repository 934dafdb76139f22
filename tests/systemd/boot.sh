#!/usr/bin/env bash
# Boots systemd in namespaces of its own, on a copy of this system that vanishes with it, with the agent's units.
# boot.sh AUK DIST: to be run as root. Ends with that systemd. AUK_HOST is a directory that the agent is to take for the host.
set -euo pipefail
auk=$(realpath "$1") dist=$(realpath "$2")

if [ "${3:-}" != inside ]; then
    # A control group of its own first, which the namespace then begins at.
    exec unshare --mount bash -c '
        set -euo pipefail
        groups=$(mktemp -d)
        mount -t cgroup2 none "$groups"
        mkdir "$groups/auk-test-$$"
        echo $$ >"$groups/auk-test-$$/cgroup.procs"
        unshare --cgroup --mount --pid --uts --ipc --net --fork --kill-child=SIGKILL bash "$@" inside "$groups" || true
        echo $$ >"$groups/cgroup.procs"
        find "$groups/auk-test-$$" -depth -type d -exec rmdir {} +
        umount "$groups" && rmdir "$groups"
    ' sh "$0" "$auk" "$dist"
fi

mount --make-rprivate /
scratch=$4
umount "$scratch"
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
root=$scratch/root
install -D "$auk" "$root/usr/bin/auk"
install -m 644 -D -t "$root/etc/systemd/system" "$dist"/*.service
install -m 644 -D "$dist/auk.sysusers.conf" "$root/usr/lib/sysusers.d/auk.conf"
install -m 644 -D "$dist/auk.tmpfiles.conf" "$root/usr/lib/tmpfiles.d/auk.conf"
rm -rf "$root/etc/auk" "$root/var/lib/auk"
printf '[Unit]\nWants=auk-agent.service\nAllowIsolate=yes\n' >"$root/etc/systemd/system/auk-test.target"
# What a loop that stalls costs is to be seen soon.
mkdir -p "$root/etc/systemd/system/auk-agent.service.d"
printf '[Service]\nWatchdogSec=5s\n' >"$root/etc/systemd/system/auk-agent.service.d/soon.conf"

if [ -n "${AUK_HOST:-}" ]; then
    mkdir -p "$root/srv/host"
    mount --rbind "$AUK_HOST" "$root/srv/host"
    printf '[Service]\nExecStart=\nExecStart=/usr/bin/auk agent --root /srv/host\nReadWritePaths=/srv/host\n' \
        >"$root/etc/systemd/system/auk-agent.service.d/host.conf"
fi

# The kernel is everybody's: its settings are not for this systemd to change.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
umount -l /run/old
systemd-sysusers auk.conf
# It then leaves alone what is the machine's.
export container=docker
exec /lib/systemd/systemd --system --unit=auk-test.target --log-target=journal
