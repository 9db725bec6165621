// Where libfuse's replies go. libfuse writes each to the connection; that of a request from a ring
// belongs into the ring's entry, and that to INIT gets what libfuse does not know. The thread that
// runs a request notes its route meanwhile, because libfuse replies on the thread that calls it.

import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// The way of the reply to the request that a thread gives to libfuse.
struct ReplyRoute {
    /// nil: to the connection, as the reply to INIT, with rings accepted.
    private let entry: EntryReply?
    /// Of the request in the entry.
    private let unique: UInt64

    static var initialization: ReplyRoute { ReplyRoute(entry: nil, unique: 0) }

    static func entry(_ entry: EntryReply, unique: UInt64) -> ReplyRoute {
        ReplyRoute(entry: entry, unique: unique)
    }

    /// libfuse answers the request in `buffer`.
    func process(_ buffer: inout fuse_buf, _ session: Session) {
        withUnsafePointer(to: self) { route in
            clinux_set_thread_note(UnsafeMutableRawPointer(mutating: route))
            fuse_session_process_buf(session.pointer, &buffer)
            clinux_set_thread_note(nil)
        }
    }

    /// How libfuse reads and writes: it reads nothing, the workers do.
    static func customIO() -> fuse_custom_io {
        var io = fuse_custom_io()
        io.read = { connection, target, count, _ in Glibc.read(connection, target, count) }
        io.writev = { connection, pieces, count, _ in
            guard let pieces, let note = clinux_thread_note() else {
                return writev(connection, pieces, count)
            }
            let all = UnsafeBufferPointer(start: pieces, count: Int(count))
            return note.load(as: ReplyRoute.self).send(all, connection)
        }
        return io
    }

    /// The first piece is the header. Returns what writev does.
    private func send(_ pieces: UnsafeBufferPointer<iovec>, _ connection: Int32) -> Int {
        guard let reply = pieces.first?.iov_base?.load(as: fuse_out_header.self) else { return -1 }
        if let entry {
            // Others are messages of its own, such as to drop what is cached.
            if reply.unique == unique { return entry.send(reply, pieces.dropFirst()) }
        } else if reply.error == 0, pieces.count > 1,
            pieces[1].iov_len >= MemoryLayout<fuse_init_out>.size, let body = pieces[1].iov_base
        {
            Rings.accept(in: body.assumingMemoryBound(to: fuse_init_out.self))
        }
        return writev(connection, pieces.baseAddress, Int32(pieces.count))
    }
}
