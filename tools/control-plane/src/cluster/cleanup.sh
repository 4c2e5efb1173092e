# Removes the folder "$1" of a cluster and the cgroups of its containers, when every copy of the other end of standard input
# is closed.
while read -r _; do :; done
cgroups() {
    for task in "$1"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*; do
        # Without a container, the pattern stands for itself.
        if [ -d "$task" ]; then find /sys/fs/cgroup -depth -type d -name "${task##*/}"; fi
    done
}
# The kernel may still be ending the processes of the node.
tries=100
while [ "$tries" -gt 0 ] && [ -n "$(cgroups "$1")" ]; do
    cgroups "$1" | while read -r cgroup; do rmdir "$cgroup"; done 2>/dev/null
    sleep 0.1
    tries=$((tries - 1))
done
# containerd's own, unless it holds the containers of another one.
find /sys/fs/cgroup -depth -type d -name k8s.io -exec rmdir {} + 2>/dev/null
until rm -rf -- "$1" 2>/dev/null || [ "$tries" -le 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
done
