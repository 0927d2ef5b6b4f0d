#!/bin/busybox sh
# The first and only program of a machine: brings eth0 up as the kernel's command line says, if it
# says anything, then runs the commands that come in on the second serial port. The first one has
# the kernel's log.
#
#   request   <number> <command in hexadecimal>
#   reply     reply <number> <exit status>
#             <standard output in hexadecimal, any number of lines>
#             errors
#             <standard error in hexadecimal, any number of lines>
#             end

/bin/busybox mkdir -p /proc /sys /dev /etc /tmp /root
/bin/busybox --install -s /bin
# For programs that ask who they are.
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group
export PATH=/programs:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# Mounted already where the kernel does that by itself.
mount -t devtmpfs devtmpfs /dev 2>/dev/null
for module in /modules/*.ko; do
    insmod "$module" || echo "cannot load $module" >/dev/console
done

ip link set lo up
bring_up_eth0() {
    # Addresses are the lab's to choose: no wait for duplicates, nobody asked for routers.
    for setting in accept_dad accept_ra router_solicitations; do
        echo 0 >/proc/sys/net/ipv6/conf/eth0/$setting
    done
    for word in $(cat /proc/cmdline); do
        value=${word#*=}
        case $word in
        vnet.mtu=*) ip link set eth0 mtu "$value" ;;
        vnet.address=*) ip address add "$value" dev eth0 ;;
        esac
    done
    ip link set eth0 up
    for try in $(seq 50); do
        [ "$(cat /sys/class/net/eth0/operstate)" = up ] && break
        sleep 0.1
    done
}
grep -q 'vnet\.mtu=' /proc/cmdline && bring_up_eth0

stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>/dev/console
echo up
while read -r number command; do
    echo "$command" | xxd -r -p >/tmp/.command
    sh /tmp/.command </dev/null >/tmp/.stdout 2>/tmp/.stderr
    echo "reply $number $?"
    xxd -p /tmp/.stdout
    echo errors
    xxd -p /tmp/.stderr
    echo end
done
poweroff -f
