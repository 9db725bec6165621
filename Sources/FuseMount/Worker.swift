// What a thread does that answers requests. Its memory is one mapping for both directions:
//
//     0            4016      4096                                   4096 + 1 MiB
//     | unused     | request | payload of a write, or data of a read |
//
// A write request is 80 bytes of header and the payload, so the payload begins on a page. A read
// request is the 80 bytes only, so the data read may lie where payloads lie.

import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// The work of each thread of a mount; shared by them, without state of its own.
final class Worker: Sendable {
    private static let page = 4096

    let file: ServedFile
    private let session: Session

    init(file: ServedFile, session: Session) {
        self.file = file
        self.session = session
    }

    /// Answers requests until the session ends.
    func run() {
        clinux_thread_name("fuse-worker")
        let pool = file.pool
        let page = Self.page
        let length = page + ServedFile.transferBytesMax + page
        let memory = mmap(
            nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else {
            // Without the first worker nobody serves; without another one those there go on.
            if pool.rounds == 0 { pool.end(ENOMEM) }
            return
        }
        defer { munmap(memory, length) }
        let request = memory + (page - DataRequest.payloadOffset)
        let capacity = length - (page - DataRequest.payloadOffset)
        let connection = session.descriptor
        let libfuse = session.pointer
        var buffer = fuse_buf()
        buffer.mem = request
        buffer.fd = -1
        var hasAborted = false
        var spin = Spin()
        while pool.mayRead() {
            // Only the single reader: another one that sleeps in read would be woken as well.
            if pool.beginsToWait() == 1, pool.mayLookOut { spin.untilReadable(connection) }
            let count = read(connection, request, capacity)
            let code = errno
            pool.endsToWait()
            if count > 0 {
                hasAborted = false
                if let data = DataRequest(request, count: count, connection: connection) {
                    data.answer(from: file)
                    continue
                }
                buffer.size = count
                fuse_session_process_buf(libfuse, &buffer)
                continue
            }
            switch code {
            // ENOENT: the request was interrupted before it was read.
            case EINTR, EAGAIN, ENOENT: continue
            case ENODEV: pool.end(0)  // unmounted
            // The unmount came while a request (the release of the file, say) was being read: the
            // next read says ENODEV. Only a connection that broke otherwise says it again.
            case ECONNABORTED where !hasAborted: hasAborted = true
            default: pool.end(count == 0 ? EPIPE : code)
            }
        }
    }
}
