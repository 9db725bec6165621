// libfuse 3's low-level interface for Swift, and what Swift cannot see of it and of sockets.
#pragma once
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/socket.h>

// fuse_session_new: a function up to libfuse 3.16, a macro since. The operations are copied;
// `userdata` stays the caller's and must outlive the session. NULL when the options are not
// understood (libfuse says why on standard error); else freed by fuse_session_destroy.
static inline struct fuse_session *cfuse_session_new(
    struct fuse_args *args, const struct fuse_lowlevel_ops *operations, void *userdata) {
    return fuse_session_new(args, operations, sizeof *operations, userdata);
}

// Receives the one descriptor that fusermount3 sends (SCM_RIGHTS), with close-on-exec set. The
// caller owns it. -errno; -ENODATA when the other side closed without sending.
static inline int cfuse_receive_descriptor(int socket) {
    char byte;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do n = recvmsg(socket, &message, 0x40000000 /* MSG_CMSG_CLOEXEC, hidden without GNU */);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return -ENODATA;
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}
