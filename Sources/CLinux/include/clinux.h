// What Linux offers and Swift cannot see: CRC32C, hidden constants, ioctls, futex.
// No policy here. Nothing allocates; nothing keeps a pointer past its return.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "clinux_fuse_ring.h"
#include <sys/uio.h>

// CRC32C (Castagnoli, reflected 0x82F63B78) of `count` bytes continued from `crc` (0 to start).
// Uses the processor's instruction where there is one.
uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t count);
// The same by table only; for tests of the above.
uint32_t clinux_crc32c_portable(uint32_t crc, const void *bytes, size_t count);
// Copies `count` bytes and returns the CRC32C of them, continued from `crc`. No overlap allowed.
uint32_t clinux_crc32c_copy(uint32_t crc, void *target, const void *source, size_t count);

// Sleeps while *word == expected; returns 0 when woken, else a positive errno (EAGAIN, EINTR,
// ETIMEDOUT). timeout_ns < 0 waits without end.
int clinux_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns);
// Wakes up to `count` sleepers; returns how many woke.
int clinux_futex_wake(const uint32_t *word, int count);

extern const int clinux_o_direct;
extern const int clinux_o_tmpfile;
extern const int clinux_falloc_keep_size, clinux_falloc_punch_hole, clinux_falloc_zero_range;
extern const int clinux_seek_data, clinux_seek_hole;

// pwritev2; dsync != 0 adds RWF_DSYNC. Returns bytes, or -errno.
int64_t clinux_pwritev(int fd, const struct iovec *vectors, int count, uint64_t offset, int dsync);
// Size in bytes of the block device behind fd, or -errno.
int64_t clinux_block_device_size(int fd);
// Discards [offset, offset+length) of a block device. 0 or -errno.
int clinux_block_discard(int fd, uint64_t offset, uint64_t length);
// Makes target share all blocks of source (reflink). 0 or -errno (EOPNOTSUPP, EXDEV, EINVAL).
int clinux_clone_file(int target_fd, int source_fd);
// Writes the dirty pages in the range to the disk and waits. 0 or -errno. An error of an earlier
// write-back is reported here too, and then no more by a sync of this descriptor.
int clinux_write_back(int fd, uint64_t offset, uint64_t length);
// Begins to write the dirty pages in the range to the disk. A hint: errors show at the next sync.
void clinux_start_write_back(int fd, uint64_t offset, uint64_t length);
// Sleeps, or less when a signal comes.
void clinux_sleep_ns(int64_t nanoseconds);
// Renames without replacing; 0 or -errno (EEXIST when target exists).
int clinux_rename_noreplace(const char *source, const char *target);
// Lowers the calling thread to the batch class with the given nice value. 0 or -errno.
int clinux_thread_background(int nice_value);
// Extended attribute `name` of the file at `path` into `target`; its length, or -errno (ENODATA).
int64_t clinux_attribute(const char *path, const char *name, void *target, size_t size);
// Sets an extended attribute. 0 or -errno.
int clinux_set_attribute(const char *path, const char *name, const void *value, size_t size);
// Removes an extended attribute. 0 or -errno.
int clinux_remove_attribute(const char *path, const char *name);
// In the child of a posix_spawn with these actions (a posix_spawn_file_actions_t) closes every
// descriptor from `first` on, after the actions before. 0 or a positive errno.
int clinux_spawn_close_from(void *actions, int first);
// Names the calling thread (15 bytes at most).
void clinux_thread_name(const char *name);
// Advisory exclusive lock on an open file (flock, tied to the description). 0 or -errno.
int clinux_lock_exclusive(int fd);
// fallocate with any mode. 0 or -errno.
int clinux_fallocate(int fd, int mode, uint64_t offset, uint64_t length);
// Atomic access to words in shared memory that holds no Swift object (the ring's record headers).
static inline uint32_t clinux_load_acquire(const void *word) {
    return __atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE);
}
static inline void clinux_store_release(void *word, uint32_t value) {
    __atomic_store_n((uint32_t *)word, value, __ATOMIC_RELEASE);
}
// Tells the processor that this is a spin loop.
static inline void clinux_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}
// CLOCK_REALTIME and CLOCK_MONOTONIC in nanoseconds.
int64_t clinux_wall_ns(void);
int64_t clinux_monotonic_ns(void);
// Gives the rest of the time slice to another thread.
void clinux_yield(void);
// Sequentially consistent: a waiter adds itself before it looks, a signaller looks after it added.
static inline uint32_t clinux_fetch_add(void *word, uint32_t value) {
    return __atomic_fetch_add((uint32_t *)word, value, __ATOMIC_SEQ_CST);
}
static inline uint32_t clinux_load_seq(const void *word) {
    return __atomic_load_n((const uint32_t *)word, __ATOMIC_SEQ_CST);
}
// A lock on one word: 0 free, 1 held, 2 held with sleepers (U. Drepper, "Futexes Are Tricky", the
// third mutex), after a short spin. The slow halves are out of line.
void clinux_lock_slow(uint32_t *word);
void clinux_unlock_slow(uint32_t *word);
static inline void clinux_lock(uint32_t *word) {
    uint32_t expected = 0;
    if (!__atomic_compare_exchange_n(word, &expected, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        clinux_lock_slow(word);
}
static inline void clinux_unlock(uint32_t *word) {
    if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2) clinux_unlock_slow(word);
}
static inline void clinux_or(uint64_t *word, uint64_t bits) {
    __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}
static inline uint64_t clinux_load_seq64(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}
// Opens `path` below the folder `folder_fd`: no symbolic link is followed anywhere, and nothing
// above the folder is reached (openat2; without it only the last name is guarded). fd or -errno.
int clinux_open_beneath(
    int folder_fd, const char *path, int flags, uint32_t mode);
// Fills `target` with raw directory entries (struct linux_dirent64). Bytes, 0 at the end, or
// -errno.
int64_t clinux_directory_entries(int fd, void *target, size_t size);
// Extended attributes of what `name` is in the folder `folder_fd`, without following a symbolic
// link; `name` "" is the folder itself. Sizes, or -errno. `list` gives names, each ended by a zero.
int64_t clinux_list_attributes_at(int folder_fd, const char *name, void *target, size_t size);
int64_t clinux_attribute_at(int folder_fd, const char *name, const char *attribute, void *target,
                            size_t size);
int clinux_set_attribute_at(int folder_fd, const char *name, const char *attribute,
                            const void *value, size_t size);
// The same of an open file.
int64_t clinux_list_attributes_of(int fd, void *target, size_t size);
int64_t clinux_attribute_of(int fd, const char *attribute, void *target, size_t size);
int clinux_set_attribute_of(int fd, const char *attribute, const void *value, size_t size);
// The file system behind fd has everything written so far on its disk (syncfs). 0 or -errno.
int clinux_sync_file_system(int fd);
extern const int clinux_o_path, clinux_o_noatime;

// A tape drive behind fd (mtio.h). 0 or -errno.
int clinux_tape_write_filemark(int fd);
int clinux_tape_rewind(int fd);
// Forward past `count` filemarks (count < 0: back before that many).
int clinux_tape_space_filemarks(int fd, int count);
// To behind everything that is recorded.
int clinux_tape_end_of_data(int fd);
// Every read and write is one record of the size it is called with.
int clinux_tape_variable_blocks(int fd);
// The number of the file that the head stands in, from 0; -errno.
int64_t clinux_tape_file_number(int fd);
// The block that the head stands before, and to go there (MTIOCPOS, MTSEEK). -errno.
int64_t clinux_tape_tell(int fd);
int clinux_tape_seek(int fd, int64_t block);
