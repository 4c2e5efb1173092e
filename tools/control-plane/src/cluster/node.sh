# The first process of a node. When it ends, the kernel ends every other process of the node and unmounts what they mounted.
set -e
# What containers mount must reach the other processes of the node, but nothing else.
mount --make-rshared /
# Programs of the node also write to paths that they do not let anyone choose.
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var
ln -s /run /var/run
mkdir -p /run/lock /var/lib /var/log /var/tmp
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 'the node is there'
trap 'exit 0' TERM
sleep infinity &
# This also reaps the processes whose parent has exited.
wait
