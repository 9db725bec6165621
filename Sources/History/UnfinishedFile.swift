// A file in the making: it gets its name when it is whole and synced, or nothing of it stays.

import DiskIO

extension Storage {
    /// Gives what is whole and synced under the name `temporary` its own, durably. Without
    /// `replacing` an existing file is refused (`.outputExists`).
    public func name(
        _ temporary: String, _ path: String, replacing: Bool
    ) throws(HistoryError) {
        guard replacing || !exists(path) else { throw .outputExists(path) }
        do throws(IOError) {
            try rename(temporary, to: path)
            try syncDirectory(Replay.parent(of: path))
        } catch { throw .output(error) }
    }
}

/// Written front to back through a buffer, under a name of its own until `commit`. One thread.
public final class UnfinishedFile {
    private let path: String
    private let storage: Storage
    private let replacing: Bool
    private let file: StorageFile
    private let temporary: String
    private let buffer = AlignedBuffer(count: 1 << 20)
    private var fill = 0
    private var isDone = false
    /// Bytes appended so far.
    public private(set) var byteCount: UInt64 = 0

    /// Without `replacing` an existing file is refused (`.outputExists`).
    public init(
        _ path: String, in storage: Storage, replacing: Bool = false
    ) throws(HistoryError) {
        guard replacing || !storage.exists(path) else { throw .outputExists(path) }
        self.path = path
        self.storage = storage
        self.replacing = replacing
        do throws(IOError) {
            (file, temporary) = try Replay.temporary(for: path, in: storage, isDirect: false)
        } catch { throw .output(error) }
    }

    deinit {
        file.close()
        // Best effort; the next try takes another name.
        if !isDone { try? storage.remove(temporary) }
    }

    public func append(_ bytes: UnsafeRawBufferPointer) throws(HistoryError) {
        var rest = bytes
        while let start = rest.baseAddress, rest.count > 0 {
            let count = min(rest.count, buffer.count - fill)
            (buffer.base + fill).copyMemory(from: start, byteCount: count)
            fill += count
            byteCount += UInt64(count)
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            if fill == buffer.count { try flush() }
        }
    }

    public func append(_ bytes: [UInt8]) throws(HistoryError) {
        var failure: HistoryError?
        bytes.withUnsafeBytes { bytes in
            do throws(HistoryError) { try append(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Appends zeros, as a hole.
    public func appendZeros(_ count: UInt64) throws(HistoryError) {
        try flush()
        byteCount += count
    }

    /// Writes over the beginning, for what is known only at the end.
    public func overwriteStart(_ bytes: [UInt8]) throws(HistoryError) {
        precondition(UInt64(bytes.count) <= byteCount)
        try flush()
        var failure: IOError?
        bytes.withUnsafeBytes { bytes in
            do throws(IOError) { try file.write(bytes, at: 0) } catch { failure = error }
        }
        if let failure { throw .output(failure) }
    }

    /// Syncs and gives it its name.
    public func commit() throws(HistoryError) {
        try flush()
        do throws(IOError) {
            try file.truncate(to: byteCount)
            try file.sync()
        } catch { throw .output(error) }
        try storage.name(temporary, path, replacing: replacing)
        isDone = true
    }

    private func flush() throws(HistoryError) {
        guard fill > 0 else { return }
        let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer.bytes)[..<fill])
        do throws(IOError) {
            try file.write(bytes, at: byteCount - UInt64(fill))
        } catch { throw .output(error) }
        fill = 0
    }
}
