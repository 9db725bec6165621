// libfuse 3's low-level interface for Swift, and the one call that Swift cannot see everywhere.
#pragma once
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

// fuse_session_new: a function up to libfuse 3.16, a macro since. The operations are copied;
// `userdata` stays the caller's and must outlive the session. NULL when the options are not
// understood (libfuse says why on standard error); else freed by fuse_session_destroy.
static inline struct fuse_session *cfuse_session_new(
    struct fuse_args *args, const struct fuse_lowlevel_ops *operations, void *userdata) {
    return fuse_session_new(args, operations, sizeof *operations, userdata);
}
