// The floor of tools/bench: what FUSE itself costs. Shows one file as disk.img in a FUSE mount and
// passes every request to it, one system call each: pread, pwrite, fdatasync, fallocate. No log,
// no cache of its own. The same options and the same loop of threads as Sources/FuseMount, but for
// its look-out for the next request (Spin.swift), so that a ratio to it tells what logdisk adds.
//
//     floor FILE MOUNTPOINT      serves in the foreground until unmounted; needs root
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 80
#define TRANSFER_MAX (1u << 20)
#define PAGE 4096
#define WRITE_HEADER 80  // struct fuse_in_header and struct fuse_write_in
#define CACHE_SECONDS 1e6
#define FILE_INODE 2

static int image;
static off_t image_size;
static struct fuse_session *session;
static __thread char *memory;

static void leave_to_others(void);

static void start(void *userdata, struct fuse_conn_info *conn) {
    (void)userdata;
    conn->max_write = TRANSFER_MAX;
    conn->max_read = TRANSFER_MAX;
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    conn->want |= conn->capable
        & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS);
    conn->want &= ~(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE
                    | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
}

static int status_of(fuse_ino_t inode, struct stat *status) {
    memset(status, 0, sizeof *status);
    status->st_ino = inode;
    status->st_mode = inode == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
    status->st_nlink = inode == FUSE_ROOT_ID ? 2 : 1;
    status->st_size = inode == FUSE_ROOT_ID ? 4096 : image_size;
    status->st_blocks = status->st_size / 512;
    status->st_blksize = 4096;
    return inode == FUSE_ROOT_ID || inode == FILE_INODE;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct fuse_entry_param entry = {.attr_timeout = CACHE_SECONDS, .entry_timeout = CACHE_SECONDS};
    if (parent == FUSE_ROOT_ID && !strcmp(name, "disk.img")) {
        entry.ino = FILE_INODE;
        status_of(FILE_INODE, &entry.attr);
    }
    fuse_reply_entry(req, &entry);
}

static void do_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info) {
    struct stat status;
    (void)info;
    if (status_of(inode, &status)) fuse_reply_attr(req, &status, CACHE_SECONDS);
    else fuse_reply_err(req, ENOENT);
}

static void do_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info) {
    if (inode != FILE_INODE) {
        fuse_reply_err(req, EISDIR);
        return;
    }
    info->keep_cache = 1;
    fuse_reply_open(req, info);
}

static void do_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info) {
    (void)inode, (void)info;
    fuse_reply_err(req, 0);
}

static void do_read(
    fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *info) {
    (void)inode, (void)info;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(image, memory + done, size - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            fuse_reply_err(req, errno);
            return;
        }
        if (n == 0) break;
        done += (size_t)n;
    }
    fuse_reply_buf(req, memory, done);
}

static void do_write(
    fuse_req_t req, fuse_ino_t inode, const char *bytes, size_t size, off_t offset,
    struct fuse_file_info *info) {
    (void)inode, (void)info;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(image, bytes + done, size - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            fuse_reply_err(req, errno);
            return;
        }
        done += (size_t)n;
    }
    fuse_reply_write(req, done);
}

static void do_fsync(fuse_req_t req, fuse_ino_t inode, int datasync, struct fuse_file_info *info) {
    (void)inode, (void)datasync, (void)info;
    leave_to_others();
    fuse_reply_err(req, fdatasync(image) ? errno : 0);
}

static void do_fallocate(
    fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
    struct fuse_file_info *info) {
    (void)inode, (void)info;
    fuse_reply_err(req, fallocate(image, mode, offset, length) ? errno : 0);
}

static const struct fuse_lowlevel_ops operations = {
    .init = start,
    .lookup = do_lookup,
    .getattr = do_getattr,
    .open = do_open,
    .release = do_release,
    .read = do_read,
    .write = do_write,
    .fsync = do_fsync,
    .fallocate = do_fallocate,
};

// The loop of threads. Sources/FuseMount/WorkerPool.swift tells why it is as it is.
#define ANSWERED (1ull << 32)
enum { CALM, WATCHFUL, SHORT_OF_THREADS };
static _Atomic uint64_t state;  // low half: threads that wait in read; high half: answered
static _Atomic uint32_t alarm_word;
static _Atomic int ended, parked, readers_wanted = 1;
static sem_t spare;
static int started;

static void wait_for_alarm(uint32_t expected, long milliseconds) {
    struct timespec limit = {.tv_nsec = milliseconds * 1000000};
    syscall(SYS_futex, &alarm_word, FUTEX_WAIT_PRIVATE, expected, milliseconds < 0 ? NULL : &limit);
}

static void raise_alarm(uint32_t kind) {
    if (atomic_exchange(&alarm_word, kind) == kind) return;
    syscall(SYS_futex, &alarm_word, FUTEX_WAKE_PRIVATE, 1);
}

static int unpark(void) {
    int count = atomic_load(&parked);
    while (count > 0)
        if (atomic_compare_exchange_weak(&parked, &count, count - 1)) return sem_post(&spare), 1;
    return 0;
}

static void leave_to_others(void) {
    if ((uint32_t)atomic_load(&state) == 0 && !unpark()) raise_alarm(SHORT_OF_THREADS);
}

static void *serve(void *unused) {
    size_t length = PAGE + TRANSFER_MAX + PAGE;
    char *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) exit(1);
    memory = map + PAGE;
    struct fuse_buf buffer = {.mem = memory - WRITE_HEADER, .fd = -1};
    while (!atomic_load(&ended)) {
        if ((int)(uint32_t)atomic_load(&state) >= atomic_load(&readers_wanted)) {
            atomic_fetch_add(&parked, 1);
            while (sem_wait(&spare)) continue;
            if (atomic_load(&ended)) break;
        }
        atomic_fetch_add(&state, ANSWERED + 1);
        ssize_t n = read(fuse_session_fd(session), buffer.mem, length - PAGE + WRITE_HEADER);
        int code = errno;
        uint64_t now = atomic_fetch_sub(&state, 1) - 1;
        if (n > 0) {
            if ((uint32_t)now == 0 && atomic_load(&alarm_word) == CALM) raise_alarm(WATCHFUL);
            buffer.size = (size_t)n;
            fuse_session_process_buf(session, &buffer);
        } else if (code != EINTR && code != EAGAIN && code != ENOENT) {
            atomic_store(&ended, 1);
        }
    }
    while (unpark()) continue;
    raise_alarm(SHORT_OF_THREADS);
    return unused;
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Watches while requests come; gives the pool a thread when all that read are held up.
static void supervise(void) {
    static pthread_t pool[THREADS_MAX];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int readers_max = processors < 4 ? (int)processors : 4;
    int samples = 0, busy = 0;
    uint32_t last = 0, first = 0;
    double cpu = 0;
    sem_init(&spare, 0, 0);
    pthread_create(&pool[started++], NULL, serve, NULL);
    while (!atomic_load(&ended)) {
        uint32_t alarm = atomic_load(&alarm_word);
        if (alarm != SHORT_OF_THREADS) wait_for_alarm(alarm, alarm == CALM ? -1 : 2);
        if (atomic_load(&ended)) break;
        uint64_t now = atomic_load(&state);
        uint32_t waiting = (uint32_t)now, answered = (uint32_t)(now >> 32);
        int add = 0;
        if (atomic_load(&alarm_word) == SHORT_OF_THREADS) {
            atomic_store(&alarm_word, WATCHFUL);
            add = waiting == 0;
        } else if (alarm == CALM) {
            samples = busy = 0, first = last = answered, cpu = cpu_seconds();
            continue;
        } else {
            add = waiting == 0 && answered == last;
            last = answered;
            busy += waiting == 0;
            if (++samples == 16) {
                int active = started - atomic_load(&parked), wanted = atomic_load(&readers_wanted);
                double used = cpu_seconds() - cpu;
                if (busy >= 15) {
                    if (active < readers_max || used < 0.032 * 0.2 * active) add = 1;
                    if (wanted < readers_max) atomic_store(&readers_wanted, wanted + 1);
                } else if (busy <= 4 && wanted > 1) {
                    atomic_store(&readers_wanted, wanted - 1);
                }
                if (answered == first && waiting > 0) {
                    atomic_store(&alarm_word, CALM);
                    if ((uint32_t)atomic_load(&state) == 0) atomic_store(&alarm_word, WATCHFUL);
                }
                samples = busy = 0, first = answered, cpu = cpu_seconds();
            }
        }
        if (add && !unpark() && started < THREADS_MAX)
            pthread_create(&pool[started++], NULL, serve, NULL);
    }
    for (int i = 0; i < started; i++) pthread_join(pool[i], NULL);
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: floor FILE MOUNTPOINT\n"), 64;
    image = open(argv[1], O_RDWR | O_CLOEXEC);
    if (image < 0) return fail(argv[1]);
    image_size = lseek(image, 0, SEEK_END);
    int connection = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (connection < 0) return fail("/dev/fuse");
    char *options, *place;
    if (asprintf(&options, "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,"
                           "max_read=%u", connection, TRANSFER_MAX) < 0) return 1;
    if (asprintf(&place, "/dev/fd/%d", connection) < 0) return 1;
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
    fuse_opt_add_arg(&arguments, "floor");
    fuse_opt_add_arg(&arguments, "-omax_read=1048576");
    session = fuse_session_new(&arguments, &operations, sizeof operations, NULL);
    if (!session) return 1;
    if (mount("floor", argv[2], "fuse.floor", MS_NOSUID | MS_NODEV, options)) return fail("mount");
    if (fuse_session_mount(session, place)) return 1;
    supervise();
    fuse_session_destroy(session);
    return 0;
}
