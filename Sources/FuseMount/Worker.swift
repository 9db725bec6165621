// The threads that answer requests. Each waits in read(2) on the connection; the kernel gives
// every request to one of them; it runs the operation and replies before it reads again.
//
// One mapping per worker holds both directions:
//
//     0            4016      4096                                   4096 + 1 MiB
//     | unused     | request | payload of a write, or data of a read |
//
// A write request is 80 bytes of header and the payload, so the payload begins on a page. A read
// request is the 80 bytes only, so the data read may lie where payloads lie.

import CFuse
import CLinux
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Workers of one session.
final class WorkerPool: Sendable {
    private static let page = 4096
    /// struct fuse_in_header and struct fuse_write_in of <linux/fuse.h>.
    private static let writeHeaderBytes = 80

    private let session: Session
    private let file: ServedFile
    /// The first errno that ended a worker, other than by the unmount; 0 for none.
    private let failure = Atomic<Int32>(0)

    init(session: Session, file: ServedFile) {
        self.session = session
        self.file = file
    }

    /// Serves on `threads` threads until the session ends. Fewer when the system gives no more.
    func run(threads: Int) throws(MountError) {
        var started: [pthread_t] = []
        for _ in 0..<threads {
            var thread = pthread_t()
            let argument = Unmanaged.passUnretained(self).toOpaque()  // joined below
            let code = pthread_create(
                &thread, nil,
                { argument in
                    guard let argument else { return nil }
                    Unmanaged<WorkerPool>.fromOpaque(argument).takeUnretainedValue().serve()
                    return nil
                }, argument)
            if code == 0 { started.append(thread) } else { failure.store(code, ordering: .relaxed) }
        }
        for thread in started { pthread_join(thread, nil) }  // orders the load below after them
        let code = failure.load(ordering: .relaxed)
        if started.isEmpty || (code != 0 && started.count == threads) {
            throw .failed("the connection to the kernel broke (\(text(of: code)))")
        }
    }

    /// One worker's life.
    private func serve() {
        clinux_thread_name("fuse-worker")
        let length = Self.page + ServedFile.transferBytesMax + Self.page
        let memory = mmap(
            nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else {
            failure.store(ENOMEM, ordering: .relaxed)
            return
        }
        defer { munmap(memory, length) }
        pthread_setspecific(file.memoryKey, memory + Self.page)
        let request = memory + (Self.page - Self.writeHeaderBytes)
        let capacity = length - (Self.page - Self.writeHeaderBytes)
        var buffer = fuse_buf()
        buffer.mem = request
        buffer.fd = -1
        while fuse_session_exited(session.pointer) == 0 {
            let count = read(session.descriptor, request, capacity)
            if count > 0 {
                buffer.size = count
                fuse_session_process_buf(session.pointer, &buffer)
                continue
            }
            switch errno {
            // ENOENT: the request was interrupted before it was read.
            case EINTR, EAGAIN, ENOENT: continue
            case ENODEV: fuse_session_exit(session.pointer)  // unmounted
            default:
                failure.store(count == 0 ? EPIPE : errno, ordering: .relaxed)
                fuse_session_exit(session.pointer)
            }
        }
    }
}
