// One entry of FUSE over io_uring; contract in clinux_fuse_ring.h. No liburing: an entry has one
// command under way at a time.
#define _GNU_SOURCE
#include "clinux_fuse_ring.h"
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// What a command to the kernel carries at the end of its submission.
struct command {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t zeroes[6];
};
enum { COMMAND_REGISTER = 1, COMMAND_COMMIT_AND_FETCH = 2 };
// Marks of completions.
enum { MARK_COMMAND = 0, MARK_STOP = 1 };
// Places in the table of files.
enum { FILE_CONNECTION = 0, FILE_STOP = 1 };
enum { SUBMISSIONS = 2 };
// IORING_REGISTER_USE_REGISTERED_RING, Linux 6.3.
#define BY_REGISTERED_RING (1u << 31)

_Static_assert(sizeof(struct clinux_fuse_header) == 288, "as the kernel has it");

static int enter(struct clinux_fuse_entry *entry, unsigned submit, unsigned wait_for) {
    return (int)syscall(SYS_io_uring_enter, entry->registered, submit, wait_for,
                        IORING_ENTER_REGISTERED_RING | IORING_ENTER_GETEVENTS, NULL, 0);
}

// Makes the files known to the io_uring, and the io_uring to the thread: each is then named by a
// number instead of a descriptor, of which a mount would need many.
static int enroll(struct clinux_fuse_entry *entry, int connection, int stop) {
    int files[] = {[FILE_CONNECTION] = connection, [FILE_STOP] = stop};
    if (syscall(SYS_io_uring_register, entry->ring, IORING_REGISTER_FILES, files, 2) != 0)
        return -errno;
    struct io_uring_rsrc_update own = {.offset = -1u, .data = (uint64_t)entry->ring};
    if (syscall(SYS_io_uring_register, entry->ring, IORING_REGISTER_RING_FDS, &own, 1) != 1)
        return -errno;
    entry->registered = own.offset;
    close(entry->ring);
    entry->ring = -1;
    return 0;
}

static int map(struct clinux_fuse_entry *entry, const struct io_uring_params *params) {
    if (!(params->features & IORING_FEAT_SINGLE_MMAP)) return -ENOSYS;
    size_t sq = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t cq = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    entry->rings_bytes = sq > cq ? sq : cq;
    void *memory = mmap(NULL, entry->rings_bytes, protection, flags, entry->ring,
                        IORING_OFF_SQ_RING);
    if (memory == MAP_FAILED) return -errno;
    entry->rings = memory;
    entry->submissions_bytes = params->sq_entries * 2 * sizeof(struct io_uring_sqe);
    memory = mmap(NULL, entry->submissions_bytes, protection, flags, entry->ring, IORING_OFF_SQES);
    if (memory == MAP_FAILED) return -errno;
    entry->submissions = memory;
    char *base = entry->rings;
    entry->sq_tail = (uint32_t *)(base + params->sq_off.tail);
    entry->cq_head = (uint32_t *)(base + params->cq_off.head);
    entry->cq_tail = (uint32_t *)(base + params->cq_off.tail);
    entry->cq_mask = *(uint32_t *)(base + params->cq_off.ring_mask);
    entry->completions = base + params->cq_off.cqes;
    uint32_t *order = (uint32_t *)(base + params->sq_off.array);
    for (uint32_t i = 0; i < params->sq_entries; i++) order[i] = i;
    entry->sq_mask = params->sq_entries - 1;
    return 0;
}

int clinux_fuse_entry_open(struct clinux_fuse_entry *entry, int connection, int stop) {
    memset(entry, 0, sizeof *entry);
    // The kernel does its part of a request when the thread asks for it, not by interrupting it.
    struct io_uring_params params = {
        .flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    entry->ring = (int)syscall(SYS_io_uring_setup, SUBMISSIONS, &params);
    if (entry->ring < 0) return -errno;
    int code = map(entry, &params);
    if (code == 0) code = enroll(entry, connection, stop);
    if (code != 0) clinux_fuse_entry_close(entry);
    return code;
}

void clinux_fuse_entry_close(struct clinux_fuse_entry *entry) {
    if (entry->submissions) munmap(entry->submissions, entry->submissions_bytes);
    if (entry->rings) munmap(entry->rings, entry->rings_bytes);
    if (entry->ring >= 0) {
        close(entry->ring);
    } else {
        struct io_uring_rsrc_update own = {.offset = entry->registered};
        syscall(SYS_io_uring_register, entry->registered,
                IORING_UNREGISTER_RING_FDS | BY_REGISTERED_RING, &own, 1);
    }
}

// The next submission, empty; the kernel sees it with the next `enter`.
static struct io_uring_sqe *submission(struct clinux_fuse_entry *entry, uint8_t code, int file) {
    uint32_t tail = *entry->sq_tail;
    struct io_uring_sqe *all = entry->submissions;
    struct io_uring_sqe *sqe = all + 2 * (tail & entry->sq_mask);
    memset(sqe, 0, 2 * sizeof *sqe);
    sqe->opcode = code;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->fd = file;
    __atomic_store_n(entry->sq_tail, tail + 1, __ATOMIC_RELEASE);
    return sqe;
}

static struct io_uring_sqe *command(struct clinux_fuse_entry *entry, uint32_t code,
                                    uint64_t commit_id) {
    struct io_uring_sqe *sqe = submission(entry, IORING_OP_URING_CMD, FILE_CONNECTION);
    struct command command = {.commit_id = commit_id, .queue = entry->queue};
    memcpy(sqe->cmd, &command, sizeof command);
    sqe->cmd_op = code;
    sqe->user_data = MARK_COMMAND;
    return sqe;
}

// Submits what is prepared, and waits for the command's end.
static int run(struct clinux_fuse_entry *entry, unsigned pending) {
    while (1) {
        uint32_t head = *entry->cq_head;
        if (__atomic_load_n(entry->cq_tail, __ATOMIC_ACQUIRE) == head) {
            int n = enter(entry, pending, 1);
            if (n > 0) pending -= (unsigned)n;
            if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY) return -errno;
            continue;
        }
        const struct io_uring_cqe *cqe =
            (const struct io_uring_cqe *)entry->completions + (head & entry->cq_mask);
        uint64_t mark = cqe->user_data;
        int result = cqe->res;
        __atomic_store_n(entry->cq_head, head + 1, __ATOMIC_RELEASE);
        return mark == MARK_STOP ? -ECANCELED : result;
    }
}

int clinux_fuse_entry_register(struct clinux_fuse_entry *entry, uint16_t queue,
                               struct clinux_fuse_header *header, void *payload,
                               size_t payload_bytes) {
    struct iovec buffers[2] = {{.iov_base = header, .iov_len = sizeof *header},
                               {.iov_base = payload, .iov_len = payload_bytes}};
    entry->header = header;
    entry->queue = queue;
    struct io_uring_sqe *poll = submission(entry, IORING_OP_POLL_ADD, FILE_STOP);
    poll->poll32_events = POLLIN;
    poll->user_data = MARK_STOP;
    struct io_uring_sqe *sqe = command(entry, COMMAND_REGISTER, 0);
    sqe->addr = (uint64_t)(uintptr_t)buffers;
    sqe->len = 2;
    for (unsigned pending = 2; pending > 0;) {
        int n = enter(entry, pending, 0);
        if (n > 0) pending -= (unsigned)n;
        if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY) return -errno;
    }
    return 0;
}

int clinux_fuse_entry_wait(struct clinux_fuse_entry *entry) { return run(entry, 0); }

int clinux_fuse_entry_commit(struct clinux_fuse_entry *entry) {
    command(entry, COMMAND_COMMIT_AND_FETCH, entry->header->entry.commit_id);
    return run(entry, 1);
}

int clinux_event_open(void) {
    int event = eventfd(0, EFD_CLOEXEC);
    return event >= 0 ? event : -errno;
}

void clinux_event_raise(int event) { eventfd_write(event, 1); }

pid_t clinux_thread_id(void) { return (pid_t)syscall(SYS_gettid); }

int clinux_bind_thread(pid_t thread, int processor) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(getpid(), sizeof allowed, &allowed) != 0) return -errno;
    if (processor < 0 || processor >= CPU_SETSIZE) return -EINVAL;
    if (!CPU_ISSET(processor, &allowed)) return -EINVAL;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    return sched_setaffinity(thread, sizeof one, &one) == 0 ? 0 : -errno;
}

int clinux_free_thread(pid_t thread) {
    cpu_set_t allowed;
    if (sched_getaffinity(getpid(), sizeof allowed, &allowed) != 0) return -errno;
    return sched_setaffinity(thread, sizeof allowed, &allowed) == 0 ? 0 : -errno;
}

int clinux_thread_batch(void) {
    struct sched_param none = {.sched_priority = 0};
    return sched_setscheduler(0, SCHED_BATCH, &none) == 0 ? 0 : -errno;
}

static _Thread_local void *thread_note;

void clinux_set_thread_note(void *note) { thread_note = note; }
void *clinux_thread_note(void) { return thread_note; }
