// Read, write and sync: the way of every block. These kinds of request, which concern the one file
// (or are reads of a past state), the workers answer themselves, in the kernel's own format
// (<linux/fuse.h>, protocol 7.9 and later); libfuse would allocate, lock twice and gather the reply
// from pieces for each. All others go through libfuse.
//
// In a worker's memory (Worker.swift), R being where requests begin, 80 bytes before a page:
//
//     request        R: fuse_in_header, 40 bytes; R+40: fuse_write_in, fuse_read_in, fuse_fsync_in
//     payload        R+80 = the page: what is to be written
//     write's reply  R: fuse_out_header, 16 bytes; R+16: fuse_write_out
//     read's reply   R+64: fuse_out_header; R+80 = the page: the data, in one piece with it
//
// Allocates nothing and counts no references.

import BlockModel
import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// A request for data in a worker's memory. Lives while it is answered.
struct DataRequest {
    private static let headerBytes = MemoryLayout<fuse_in_header>.size
    private static let replyHeaderBytes = MemoryLayout<fuse_out_header>.size
    /// Where a write's payload begins.
    static let payloadOffset = headerBytes + MemoryLayout<fuse_write_in>.size

    private let memory: UnsafeMutableRawPointer
    private let connection: Int32
    private let header: fuse_in_header

    /// nil when the `count` bytes at `memory` are for libfuse.
    @inline(__always)
    init?(_ memory: UnsafeMutableRawPointer, count: Int, connection: Int32) {
        guard count >= Self.headerBytes else { return nil }
        header = memory.load(as: fuse_in_header.self)
        guard Int(header.len) == count else { return nil }
        switch fuse_opcode(header.opcode) {
        case FUSE_WRITE:
            guard count >= Self.payloadOffset else { return nil }
            let size = (memory + Self.headerBytes).load(as: fuse_write_in.self).size
            guard Int(size) == count - Self.payloadOffset else { return nil }
        case FUSE_READ:
            guard count >= Self.headerBytes + MemoryLayout<fuse_read_in>.size else { return nil }
        case FUSE_FSYNC, FUSE_INTERRUPT: break
        default: return nil
        }
        self.memory = memory
        self.connection = connection
    }

    /// Does what is asked, and replies.
    @inline(__always)
    func answer(from file: ServedFile) {
        switch fuse_opcode(header.opcode) {
        case FUSE_WRITE: write(to: file)
        case FUSE_READ: read(from: file)
        case FUSE_FSYNC: flush(file)
        // libfuse does not know the requests answered here. The kernel sends no more of these.
        default: reply(error: ENOSYS)
        }
    }

    /// A write beyond the end has no space; one across the end is short, but with O_DIRECT, where
    /// the kernel makes EIO of a short answer, it has no space.
    private func write(to file: ServedFile) {
        guard header.nodeid == Inode.file else { return reply(error: EROFS) }
        let request = (memory + Self.headerBytes).load(as: fuse_write_in.self)
        let size = UInt64(request.size)
        let space = file.byteCount - min(request.offset, file.byteCount)
        let count = min(size, space)
        if count < size, count == 0 || Int32(bitPattern: request.flags) & clinux_o_direct != 0 {
            return reply(error: ENOSPC)
        }
        do throws(DeviceError) {
            if count > 0 {
                try file.device.write(
                    UnsafeRawBufferPointer(start: memory + Self.payloadOffset, count: Int(count)),
                    at: request.offset)
                file.noteWritten()
            }
        } catch {
            return reply(error: error.rawValue)
        }
        (memory + Self.replyHeaderBytes).storeBytes(
            of: fuse_write_out(size: UInt32(count), padding: 0), as: fuse_write_out.self)
        send(from: memory, bodyBytes: MemoryLayout<fuse_write_out>.size)
    }

    /// Reads at or after the end give no bytes, reads across it those before it.
    private func read(from file: ServedFile) {
        let request = (memory + Self.headerBytes).load(as: fuse_read_in.self)
        let space = file.byteCount - min(request.offset, file.byteCount)
        let count = Int(min(UInt64(request.size), space))
        // max_read is part of the mount's options.
        guard count <= ServedFile.transferBytesMax else { return reply(error: EINVAL) }
        let target = memory + Self.payloadOffset
        let bytes = UnsafeMutableRawBufferPointer(start: target, count: count)
        do throws(DeviceError) {
            if header.nodeid != Inode.file {
                guard let past = file.openPasts.device(request.fh) else { throw .invalid }
                try past.read(into: bytes, at: request.offset)
            } else if count > 0 {
                try file.device.read(into: bytes, at: request.offset)
            }
        } catch {
            return reply(error: error.rawValue)
        }
        send(from: target - Self.replyHeaderBytes, bodyBytes: count)
    }

    /// fsync and fdatasync; also what the kernel sends after each write of an O_SYNC or O_DSYNC
    /// file, before write(2) returns.
    private func flush(_ file: ServedFile) {
        guard header.nodeid == Inode.file else { return send(from: memory, bodyBytes: 0) }
        file.pool.beginsFlush()
        do throws(DeviceError) {
            try file.device.flush()
            send(from: memory, bodyBytes: 0)
        } catch {
            reply(error: error.rawValue)
        }
    }

    private func reply(error code: Int32) {
        send(from: memory, bodyBytes: 0, error: code)
    }

    /// Puts the reply's header before its body, and sends both.
    private func send(from start: UnsafeMutableRawPointer, bodyBytes: Int, error code: Int32 = 0) {
        let count = Self.replyHeaderBytes + bodyBytes
        let reply = fuse_out_header(len: UInt32(count), error: -code, unique: header.unique)
        start.storeBytes(of: reply, as: fuse_out_header.self)
        // ENOENT: the request was given up meanwhile. ENODEV: the next read of the worker tells.
        _ = Glibc.write(connection, start, count)
    }
}
