"""System calls that no document reader needs, by their numbers on x86-64 and arm64 (Linux's `unistd.h` of both)."""

from __future__ import annotations

LAST_KNOWN = 469
"""The highest number that was judged (`file_setattr`, Linux 6.17). Higher ones do not exist for a reader."""
X32_BIT = 0x40000000
"""Marks a call of the x32 interface, whose numbers this table does not judge."""

REFUSED = """
socket 41 198|bind 49 200|listen 50 201|accept 43 202|accept4 288 242|connect 42 203|getsockname 51 204
getpeername 52 205|sendto 44 206|recvfrom 45 207|sendmsg 46 211|recvmsg 47 212|sendmmsg 307 269|recvmmsg 299 243
shutdown 48 210|getsockopt 55 209|setsockopt 54 208
ptrace 101 117|process_vm_readv 310 270|process_vm_writev 311 271|kcmp 312 272|pidfd_open 434 434|pidfd_getfd 438 438
pidfd_send_signal 424 424|process_madvise 440 440|process_mrelease 448 448|tkill 200 130|rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240|setsid 112 157|setpgid 109 154|setpriority 141 140|ioprio_set 251 30|sched_setscheduler 144 119
sched_setparam 142 118|sched_setattr 314 274|migrate_pages 256 238|move_pages 279 239
unshare 272 97|setns 308 268|mount 165 40|umount2 166 39|pivot_root 155 41|chroot 161 51|fsopen 430 430|fsconfig 431 431
fsmount 432 432|fspick 433 433|open_tree 428 428|move_mount 429 429|mount_setattr 442 442|open_tree_attr 467 467
statmount 457 457|listmount 458 458|name_to_handle_at 303 264|open_by_handle_at 304 265
add_key 248 217|request_key 249 218|keyctl 250 219|bpf 321 280|perf_event_open 298 241|userfaultfd 323 282
io_uring_setup 425 425|io_uring_enter 426 426|io_uring_register 427 427|lsm_set_self_attr 460 460
kexec_load 246 104|kexec_file_load 320 294|init_module 175 105|finit_module 313 273|delete_module 176 106|reboot 169 142
swapon 167 224|swapoff 168 225|acct 163 89|quotactl 179 60|quotactl_fd 443 443|syslog 103 116|vhangup 153 58
sethostname 170 161|setdomainname 171 162|settimeofday 164 170|clock_settime 227 112|clock_adjtime 305 266|adjtimex 159 171
personality 135 92|iopl 172 -|ioperm 173 -|modify_ldt 154 -|uselib 134 -|nfsservctl 180 42|_sysctl 156 -
lookup_dcookie 212 18|sysfs 139 -|ustat 136 -
chmod 90 -|fchmod 91 52|fchmodat 268 53|fchmodat2 452 452|chown 92 -|fchown 93 55|lchown 94 -|fchownat 260 54
utime 132 -|utimes 235 -|utimensat 280 88|futimesat 261 -|setxattr 188 5|lsetxattr 189 6|fsetxattr 190 7|removexattr 197 14
lremovexattr 198 15|fremovexattr 199 16|setxattrat 463 463|removexattrat 466 466|file_setattr 469 469
mkdir 83 -|mkdirat 258 34|symlink 88 -|symlinkat 266 36|link 86 -|linkat 265 37|mknod 133 -|mknodat 259 33
memfd_create 319 279|memfd_secret 447 447|shmget 29 194|shmat 30 196|shmctl 31 195|shmdt 67 197|semget 64 190|semop 65 193
semtimedop 220 192|semctl 66 191|msgget 68 186|msgsnd 69 189|msgrcv 70 188|msgctl 71 187|mq_open 240 180|mq_unlink 241 181
mq_timedsend 242 182|mq_timedreceive 243 183|mq_notify 244 184|mq_getsetattr 245 185
inotify_init 253 -|inotify_init1 294 26|inotify_add_watch 254 27|inotify_rm_watch 255 28|fanotify_init 300 262
fanotify_mark 301 263|sync 162 81|syncfs 306 267
setuid 105 146|setgid 106 144|setreuid 113 145|setregid 114 143|setresuid 117 147|setresgid 119 149|setgroups 116 159
setfsuid 122 151|setfsgid 123 152|capset 126 91|truncate 76 45
"""
"""Name and both numbers; `-` where arm64 has no such call. They fail with EPERM."""

FORK, EXECUTE = "fork 57 -|vfork 58 -", "execve 59 221|execveat 322 281"
FILTER = "seccomp 317 277"
SOCKETPAIR = (53, 199)
KILL, TGKILL, PRLIMIT, AFFINITY = (62, 129), (234, 131), (302, 261), (203, 122)
OPEN = "open 2 -"
OPENAT, OPENAT2 = (257, 56), (437, 437)
CLONE, CLONE3, FCNTL, IOCTL, PRCTL, SECCOMP = (56, 220), (435, 435), (72, 25), (16, 29), (157, 167), (317, 277)


def numbers(table: str, column: int) -> list[int]:
    """The numbers in `table` of one architecture: column 0 is x86-64, 1 is arm64. In ascending order."""
    rows = [entry.split() for line in table.split("\n") for entry in line.split("|") if entry]
    return sorted(int(row[1 + column]) for row in rows if row[1 + column] != "-")
