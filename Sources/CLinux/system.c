// Hidden constants, ioctls, futex and flags of Linux behind plain functions; contracts in clinux.h.
#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

const int clinux_o_direct = O_DIRECT;
const int clinux_o_tmpfile = O_TMPFILE;
const int clinux_falloc_keep_size = FALLOC_FL_KEEP_SIZE;
const int clinux_falloc_punch_hole = FALLOC_FL_PUNCH_HOLE;
const int clinux_falloc_zero_range = FALLOC_FL_ZERO_RANGE;
const int clinux_seek_data = SEEK_DATA;
const int clinux_seek_hole = SEEK_HOLE;

int clinux_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    long r = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &limit,
                     NULL, 0);
    return r == 0 ? 0 : errno;
}

int clinux_futex_wake(const uint32_t *word, int count) {
    return (int)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

int64_t clinux_pwritev(int fd, const struct iovec *vectors, int count, uint64_t offset, int dsync) {
    ssize_t n = pwritev2(fd, vectors, count, (off_t)offset, dsync ? RWF_DSYNC : 0);
    return n >= 0 ? n : -errno;
}

int64_t clinux_block_device_size(int fd) {
    uint64_t bytes = 0;
    return ioctl(fd, BLKGETSIZE64, &bytes) == 0 ? (int64_t)bytes : -errno;
}

int clinux_block_discard(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(fd, BLKDISCARD, range) == 0 ? 0 : -errno;
}

int clinux_clone_file(int target_fd, int source_fd) {
    return ioctl(target_fd, FICLONE, source_fd) == 0 ? 0 : -errno;
}

int clinux_write_back(int fd, uint64_t offset, uint64_t length) {
    int r = sync_file_range(fd, (off_t)offset, (off_t)length,
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                SYNC_FILE_RANGE_WAIT_AFTER);
    return r == 0 ? 0 : -errno;
}

void clinux_start_write_back(int fd, uint64_t offset, uint64_t length) {
    sync_file_range(fd, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
}

void clinux_sleep_ns(int64_t nanoseconds) {
    struct timespec time = {.tv_sec = nanoseconds / 1000000000,
                            .tv_nsec = nanoseconds % 1000000000};
    nanosleep(&time, NULL);
}

int clinux_rename_noreplace(const char *source, const char *target) {
    return renameat2(AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE) == 0 ? 0 : -errno;
}

int clinux_thread_background(int nice_value) {
    struct sched_param none = {.sched_priority = 0};
    if (sched_setscheduler(0, SCHED_BATCH, &none) != 0) return -errno;
    return setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice_value) == 0 ? 0 : -errno;
}

int64_t clinux_attribute(const char *path, const char *name, void *target, size_t size) {
    ssize_t n = getxattr(path, name, target, size);
    return n >= 0 ? n : -errno;
}

int clinux_set_attribute(const char *path, const char *name, const void *value, size_t size) {
    return setxattr(path, name, value, size, 0) == 0 ? 0 : -errno;
}

int clinux_remove_attribute(const char *path, const char *name) {
    return removexattr(path, name) == 0 ? 0 : -errno;
}

int clinux_spawn_close_from(void *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

void clinux_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

int clinux_lock_exclusive(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno; }

int clinux_fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
    int r;
    do r = fallocate(fd, mode, (off_t)offset, (off_t)length);
    while (r != 0 && errno == EINTR);
    return r == 0 ? 0 : -errno;
}

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clinux_wall_ns(void) { return now_ns(CLOCK_REALTIME); }
int64_t clinux_monotonic_ns(void) { return now_ns(CLOCK_MONOTONIC); }
void clinux_yield(void) { sched_yield(); }

void clinux_lock_slow(uint32_t *word) {
    for (int i = 0; i < 100; i++) {
        uint32_t expected = 0;
        if (__atomic_compare_exchange_n(word, &expected, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        clinux_pause();
    }
    while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE) != 0) clinux_futex_wait(word, 2, -1);
}

void clinux_unlock_slow(uint32_t *word) { clinux_futex_wake(word, 1); }
