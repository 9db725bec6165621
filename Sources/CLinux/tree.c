// What walking and rebuilding file trees needs, and the ioctls of tape drives; contracts in
// clinux.h.
#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mtio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

const int clinux_o_path = O_PATH;
const int clinux_o_noatime = O_NOATIME;

int clinux_open_beneath(int folder_fd, const char *path, int flags, uint32_t mode) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    long fd = syscall(SYS_openat2, folder_fd, path, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = openat(folder_fd, path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    return fd >= 0 ? (int)fd : -errno;
}

int64_t clinux_directory_entries(int fd, void *target, size_t size) {
    long n = syscall(SYS_getdents64, fd, target, size);
    return n >= 0 ? n : -errno;
}

// There is no system call with a folder before Linux 6.13: the folder by its name in /proc.
enum { PROC_PATH_MAX = 4096 + 64 };
static int proc_path(char *target, int folder_fd, const char *name) {
    const char *separator = *name ? "/" : "";
    int n = snprintf(target, PROC_PATH_MAX, "/proc/self/fd/%d%s%s", folder_fd, separator, name);
    return n < PROC_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int64_t clinux_list_attributes_at(int folder_fd, const char *name, void *target, size_t size) {
    char path[PROC_PATH_MAX];
    int r = proc_path(path, folder_fd, name);
    if (r != 0) return r;
    ssize_t n = *name ? llistxattr(path, target, size) : listxattr(path, target, size);
    return n >= 0 ? n : -errno;
}

int64_t clinux_attribute_at(int folder_fd, const char *name, const char *attribute, void *target,
                            size_t size) {
    char path[PROC_PATH_MAX];
    int r = proc_path(path, folder_fd, name);
    if (r != 0) return r;
    ssize_t n = *name ? lgetxattr(path, attribute, target, size)
                      : getxattr(path, attribute, target, size);
    return n >= 0 ? n : -errno;
}

int clinux_set_attribute_at(int folder_fd, const char *name, const char *attribute,
                            const void *value, size_t size) {
    char path[PROC_PATH_MAX];
    int r = proc_path(path, folder_fd, name);
    if (r != 0) return r;
    int set = *name ? lsetxattr(path, attribute, value, size, 0)
                    : setxattr(path, attribute, value, size, 0);
    return set == 0 ? 0 : -errno;
}

int64_t clinux_list_attributes_of(int fd, void *target, size_t size) {
    ssize_t n = flistxattr(fd, target, size);
    return n >= 0 ? n : -errno;
}

int64_t clinux_attribute_of(int fd, const char *attribute, void *target, size_t size) {
    ssize_t n = fgetxattr(fd, attribute, target, size);
    return n >= 0 ? n : -errno;
}

int clinux_set_attribute_of(int fd, const char *attribute, const void *value, size_t size) {
    return fsetxattr(fd, attribute, value, size, 0) == 0 ? 0 : -errno;
}

int clinux_sync_file_system(int fd) { return syncfs(fd) == 0 ? 0 : -errno; }

static int tape_operation(int fd, short operation, int count) {
    struct mtop command = {.mt_op = operation, .mt_count = count};
    return ioctl(fd, MTIOCTOP, &command) == 0 ? 0 : -errno;
}

int clinux_tape_write_filemark(int fd) { return tape_operation(fd, MTWEOF, 1); }
int clinux_tape_rewind(int fd) { return tape_operation(fd, MTREW, 1); }
int clinux_tape_space_filemarks(int fd, int count) {
    return count >= 0 ? tape_operation(fd, MTFSF, count) : tape_operation(fd, MTBSF, -count);
}
int clinux_tape_end_of_data(int fd) { return tape_operation(fd, MTEOM, 1); }
int clinux_tape_variable_blocks(int fd) { return tape_operation(fd, MTSETBLK, 0); }

int64_t clinux_tape_file_number(int fd) {
    struct mtget state;
    return ioctl(fd, MTIOCGET, &state) == 0 ? state.mt_fileno : -errno;
}

int64_t clinux_tape_tell(int fd) {
    struct mtpos position;
    return ioctl(fd, MTIOCPOS, &position) == 0 ? position.mt_blkno : -errno;
}

int clinux_tape_seek(int fd, int64_t block) { return tape_operation(fd, MTSEEK, (int)block); }
