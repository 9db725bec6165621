// FUSE over io_uring, Linux 6.14 and later (Documentation/filesystems/fuse/fuse-io-uring.rst). The
// headers of a distribution may be older, so what it needs of <linux/fuse.h> stands here.
//
// The kernel keeps one queue for each possible processor, and puts a request into that of the
// processor on which it came up. A queue has entries: memory for one request and its reply. An
// entry is given to the kernel, comes back with a request, and goes to the kernel again with the
// reply, by one command each time. Here each entry has an io_uring and a thread of its own, so that
// a request that waits for a disk holds up no other.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// A flag of INIT: this bit of flags2 (bit 41 of both words), where flags has FUSE_INIT_EXT.
#define CLINUX_FUSE_OVER_IO_URING_2 (1u << 9)

// The first of the two pieces of memory of an entry.
struct clinux_fuse_header {
    // Request: struct fuse_in_header. Reply: struct fuse_out_header, whose length does not count.
    char in_out[128];
    // The first argument of a request, such as struct fuse_write_in.
    char arguments[128];
    struct {
        uint64_t flags;
        uint64_t commit_id;
        // Bytes in the second piece: further arguments or data to write; the body of a reply.
        uint32_t payload_bytes;
        uint32_t padding;
        uint64_t reserved;
    } entry;
};

// An entry's io_uring. Belongs to one thread: the one that opened it.
struct clinux_fuse_entry {
    int ring;
    unsigned registered;
    uint16_t queue;
    uint32_t sq_mask, cq_mask;
    uint32_t *sq_tail, *cq_head, *cq_tail;
    void *completions, *submissions, *rings;
    size_t rings_bytes, submissions_bytes;
    struct clinux_fuse_header *header;
};

// Prepares an entry for a connection. `stop` is an eventfd: when it is written to, whoever waits
// returns with -ECANCELED. Both stay the caller's. 0 or -errno (ENOSYS, EPERM: no io_uring here).
int clinux_fuse_entry_open(struct clinux_fuse_entry *entry, int connection, int stop);
// Only after an open that gave 0.
void clinux_fuse_entry_close(struct clinux_fuse_entry *entry);
// Gives the entry to a queue, without waiting: 0 or -errno. Whether the kernel takes it, the wait
// tells. The memory stays the caller's, who keeps it until the entry is closed.
int clinux_fuse_entry_register(struct clinux_fuse_entry *entry, uint16_t queue,
                               struct clinux_fuse_header *header, void *payload,
                               size_t payload_bytes);
// Returns when there is the first request in an entry that a queue has: 0, or -errno (ENOTCONN:
// unmounted; EINVAL and others: the kernel does not take the entry).
int clinux_fuse_entry_wait(struct clinux_fuse_entry *entry);
// Sends the reply that lies in the entry, and returns with the next request, as above.
int clinux_fuse_entry_commit(struct clinux_fuse_entry *entry);

// An eventfd for `stop`, which the caller closes, or -errno; and what ends all waiting for it.
int clinux_event_open(void);
void clinux_event_raise(int event);
// The calling thread.
pid_t clinux_thread_id(void);
// Keeps a thread of this process on one of the processors that the first thread may use. 0 or
// -errno (EINVAL: it may not use that one).
int clinux_bind_thread(pid_t thread, int processor);
// Lets it run wherever the first thread may.
int clinux_free_thread(pid_t thread);
// Puts the calling thread into the batch class: waking it does not interrupt who woke it.
int clinux_thread_batch(void);
// A pointer that each thread has of its own; NULL at first.
void clinux_set_thread_note(void *note);
void *clinux_thread_note(void);
