// The life of WAL files: made once at full size, written, sealed, and used again when nobody needs
// their records any more.
//
//            make (allocate, header, zeros)
//   nothing ------------------------------> prepared --take--> active --take of the next--> sealed
//                                              ^                                              |
//                                              |  recycle (.tmp, new header, new name)        |
//                                            spare <--------- release(through:) -------------+
//                                              |
//                                              +--> removed, when there are more than needed
//
// One file is prepared ahead; several while the log fills them quickly, because a writer that has
// to make its next file by itself stands still meanwhile. Zeros make later small appends cheap
// (the file system need not note that a block has come into use); a log that fills a file within
// seconds appends in large pieces, and writing everything twice would only halve its speed.
//
// Invariants: at most one active file; sealed files are in LSN order and contiguous with it; the
// sum of all files stays at or under the bound (at least three files). A file is released only
// behind both the checkpoint and the archive, and never while a reader holds it.
// Threads: all methods may be called by any thread; one lock, never held over the disk's work
// except inside `prepare`, which has its own.

import BlockModel
import CLinux
import DiskIO
import LogFormat

/// One WAL file that holds or may get records.
public final class WALFile: @unchecked Sendable {
    // @unchecked: written by the holder of the append lock only; others read under the set's lock.
    let path: String
    let file: StorageFile
    let header: WALFileHeader
    /// First and last LSN; nil while it holds none.
    var first: LSN?
    var last: LSN?
    /// Where the next record goes.
    var appendOffset = UInt64(WALFileHeader.byteCount)

    init(path: String, file: StorageFile, header: WALFileHeader) {
        self.path = path
        self.file = file
        self.header = header
    }

    var freeBytes: UInt64 { header.fileBytes - appendOffset }
    /// A file of an earlier opening counts as full.
    var recordBytes: UInt64 {
        (isEmpty ? header.fileBytes : appendOffset) - UInt64(WALFileHeader.byteCount)
    }
    var isEmpty: Bool { appendOffset == UInt64(WALFileHeader.byteCount) }
}

/// Why no further WAL file can be had now.
public enum WALFull: Error, Sendable {
    /// The bound is reached: the archiver or the checkpoint has to catch up.
    case bound
    case io(IOError)
}

public final class WALFiles: @unchecked Sendable {
    // @unchecked: everything mutable is under `lock` or `prepareLock`.
    let storage: Storage
    let directory: String
    private let volume: VolumeID
    private let epoch: UInt64
    private let epochFirstLSN: LSN
    let salt: UInt32
    private let fileBytes: UInt64
    private let fileCountMax: Int
    private let lock = Lock()
    private let prepareLock = Lock()
    private var nextSequence: UInt64
    private var sealed: [WALFile] = []
    private var active: WALFile?
    private var prepared: [WALFile] = []
    private var spares: [String] = []
    private var lastTaken = clinux_monotonic_ns()
    /// How long the last file took to fill.
    private var lastFilling = Int64.max
    private var pinnedFrom: [Int: LSN] = [:]
    private var nextPin = 0
    /// Signalled when another file should be prepared.
    package let wanted = WaitWord()
    private let block = AlignedBuffer(count: 1 << 20)

    init(
        contents: LogContents, directory: String, storage: Storage, volume: VolumeID,
        epoch: UInt64, salt: UInt32, fileBytes: UInt64, bytesMax: UInt64
    ) throws(IOError) {
        self.storage = storage
        self.directory = directory
        self.volume = volume
        self.epoch = epoch
        self.salt = salt
        self.fileBytes = fileBytes
        epochFirstLSN = contents.last.lsn.next
        fileCountMax = max(3, Int(clamping: bytesMax / fileBytes))
        nextSequence = contents.highestSequence + 1
        spares = contents.unneeded
        // Files whose making was cut short.
        for name in try storage.list(directory) where name.hasSuffix(".wal.tmp") {
            try storage.remove("\(directory)/\(name)")
        }
        for found in contents.files {
            let file = try storage.open(found.path, OpenOptions(.readWrite, isDirect: true))
            let entry = WALFile(path: found.path, file: file, header: found.header)
            entry.first = found.first
            entry.last = found.last
            sealed.append(entry)
        }
    }

    /// Bytes of all WAL files, and the bound.
    package var space: (bytes: UInt64, bound: UInt64) {
        lock.withLock { (UInt64(count) * fileBytes, UInt64(fileCountMax) * fileBytes) }
    }

    private var count: Int {
        sealed.count + spares.count + (active == nil ? 0 : 1) + prepared.count
    }

    /// Whether the bound allows another file to be prepared. Under `lock`.
    private var canMake: Bool { !spares.isEmpty || count < fileCountMax }

    /// Files fill up within moments. Under `lock`.
    private var isQuick: Bool { lastFilling < Self.quickFilling }

    /// How many files to have prepared. Under `lock`.
    private var aheadWanted: Int { isQuick ? max(1, min(Self.aheadMax, fileCountMax / 4)) : 1 }

    private static let aheadMax = 4
    private static let quickFilling: Int64 = 500_000_000

    /// Bytes of the records after `lsn`, roughly.
    package func bytes(after lsn: LSN) -> UInt64 {
        lock.withLock {
            (sealed + [active].compactMap { $0 }).reduce(UInt64(0)) { bytes, file in
                guard let first = file.first, let last = file.last else { return bytes }
                return bytes + shareOfBytes(file.recordBytes, of: first...last, after: lsn)
            }
        }
    }

    /// Share of the bound that is taken by files with records.
    package var share: Double {
        lock.withLock { Double(sealed.count + (active == nil ? 0 : 1)) / Double(fileCountMax) }
    }

    /// The file to append to. Only for the holder of the append lock.
    func current() -> WALFile? { active }

    /// Seals the active file and makes the prepared one active; prepares one when there is none.
    package func takeNext() throws(WALFull) -> WALFile {
        if lock.withLock({ prepared.isEmpty }) { try prepare(fillWithZeros: false) }
        let next = try lock.withLock { () throws(WALFull) -> WALFile in
            guard !prepared.isEmpty else { throw .bound }
            if let active {
                if active.first == nil { spares.append(active.path) } else { sealed.append(active) }
            }
            let next = prepared.removeFirst()
            active = next
            let now = clinux_monotonic_ns()
            if sealed.last?.header.epoch == epoch { lastFilling = now - lastTaken }
            lastTaken = now
            return next
        }
        wanted.signal()
        return next
    }

    /// Prepares as many files as should be ready now; for the thread that waits on `wanted`. Where
    /// that fails the writer tries again itself and reports why.
    package func prepareAhead() {
        while true {
            let (isWanted, readyMax, isQuick) = lock.withLock {
                (prepared.count < aheadWanted && canMake, aheadWanted, self.isQuick)
            }
            guard isWanted else { return }
            do throws(WALFull) {
                try prepare(fillWithZeros: !isQuick, upTo: readyMax)
            } catch { return }
        }
    }

    /// Whether `takeNext` can succeed as far as the bound is concerned.
    package var mayTakeNext: Bool {
        lock.withLock { !prepared.isEmpty || canMake }
    }

    var needsPreparing: Bool { lock.withLock { prepared.isEmpty && canMake } }

    /// Makes the next file ready ahead of its use, unless `readyMax` are. `fillWithZeros` writes a
    /// new file once, so that later appends change no metadata; a recycled one has been written
    /// already.
    func prepare(fillWithZeros: Bool, upTo readyMax: Int = 1) throws(WALFull) {
        prepareLock.lock()
        defer { prepareLock.unlock() }
        let (spare, sequence) = try lock.withLock {
            () throws(WALFull) -> (String?, UInt64?) in
            if prepared.count >= readyMax { return (nil, nil) }
            guard canMake else { throw .bound }
            nextSequence += 1
            // Oldest first, so that what stays on disk is one run of LSNs.
            return (spares.isEmpty ? nil : spares.removeFirst(), nextSequence - 1)
        }
        guard let sequence else { return }
        do throws(IOError) {
            let file = try make(sequence: sequence, from: spare, fillWithZeros: fillWithZeros)
            lock.withLock { prepared.append(file) }
        } catch {
            throw .io(error)
        }
    }

    /// A file is never changed under a name that recovery reads.
    private func make(
        sequence: UInt64, from spare: String?, fillWithZeros: Bool
    ) throws(IOError) -> WALFile {
        let path = "\(directory)/\(WALFileHeader.fileName(sequence: sequence))"
        let header = WALFileHeader(
            volume: volume, sequence: sequence, epoch: epoch, epochFirstLSN: epochFirstLSN,
            salt: salt, fileBytes: fileBytes)
        let working = "\(path).tmp"
        do throws(IOError) {
            if storage.exists(working) { try storage.remove(working) }
            if let spare {
                try storage.rename(spare, to: working)
                try storage.syncDirectory(directory)
            }
            let file = try storage.open(
                working,
                OpenOptions(
                    .readWrite, creation: spare == nil ? .exclusively : .never, isDirect: true))
            if try file.size() < fileBytes { try file.allocate(offset: 0, count: fileBytes) }
            if spare == nil, fillWithZeros {
                block.bytes.initializeMemory(as: UInt8.self, repeating: 0)
                for offset in stride(from: 0, to: fileBytes, by: block.count) {
                    let piece = min(UInt64(block.count), fileBytes - offset)
                    try file.write(
                        UnsafeRawBufferPointer(start: block.base, count: Int(piece)), at: offset)
                }
            }
            // With the place of the first record: what an earlier life of this epoch left there
            // would pass for one, and recovery would begin with it.
            let head = UnsafeMutableRawBufferPointer(
                start: block.base, count: WALFileHeader.byteCount + RecordHeader.byteCount)
            head.initializeMemory(as: UInt8.self, repeating: 0)
            header.encode(
                to: UnsafeMutableRawBufferPointer(rebasing: head[..<WALFileHeader.byteCount]))
            try file.write(UnsafeRawBufferPointer(head), at: 0)
            try file.sync()
            file.close()
            try storage.rename(working, to: path)
            try storage.syncDirectory(directory)
        } catch {
            // A file that came to nothing must not eat the space that others wait for.
            for left in [working, spare].compactMap({ $0 }) where storage.exists(left) {
                try? storage.remove(left)
            }
            throw error
        }
        let file = try storage.open(path, OpenOptions(.readWrite, isDirect: true))
        return WALFile(path: path, file: file, header: header)
    }

    /// Nobody needs records up to `lsn` any more: files wholly behind it become spare. A quarter of
    /// the bound may be spare, for the next burst, and the rest is removed; at the end of the mount
    /// (`isEnding`) nearly all are.
    package func release(through lsn: LSN, isEnding: Bool = false) {
        let (surplus, isNew) = lock.withLock { () -> ([String], Bool) in
            let bound = pinnedFrom.values.min().map { min($0.previous, lsn) } ?? lsn
            let before = spares.count
            while let oldest = sealed.first, let last = oldest.last, last <= bound {
                sealed.removeFirst()
                oldest.file.close()
                spares.append(oldest.path)
            }
            let isNew = spares.count > before
            let sparesMax = isEnding ? 2 : max(2, fileCountMax / 4)
            guard spares.count > sparesMax else { return ([], isNew) }
            let extra = Array(spares[..<(spares.count - sparesMax)])
            spares.removeFirst(extra.count)
            return (extra, isNew)
        }
        if isNew { wanted.signal() }
        for path in surplus { try? storage.remove(path) }  // a leftover is found at the next open
    }

    /// Keeps records from `lsn` on until `unpin`.
    func pin(from lsn: LSN) -> Int {
        lock.withLock {
            nextPin += 1
            pinnedFrom[nextPin] = lsn
            return nextPin
        }
    }

    func unpin(_ pin: Int) { lock.withLock { _ = pinnedFrom.removeValue(forKey: pin) } }

    /// The file that holds `lsn`, for reading, and the last LSN to read there: behind the last one
    /// of a sealed file may lie records that a recovery has cut off.
    func file(holding lsn: LSN) -> (path: String, header: WALFileHeader, last: LSN)? {
        lock.withLock {
            for file in sealed {
                guard let first = file.first, let last = file.last else { continue }
                if first <= lsn, lsn <= last { return (file.path, file.header, last) }
            }
            if let active, let first = active.first, first <= lsn, active.last! >= lsn {
                return (active.path, active.header, .max)  // it grows
            }
            return nil
        }
    }

    /// The first record of the first file that begins behind `lsn`: where reading can go on when
    /// `lsn` cannot be read. Nil where there is none.
    package func firstLSN(behind lsn: LSN) -> LSN? {
        lock.withLock {
            (sealed.compactMap(\.first) + [active?.first].compactMap { $0 }).first { $0 > lsn }
        }
    }

    /// Notes what an append put into the active file.
    func appended(first: LSN, last: LSN, bytes: UInt64) {
        lock.withLock {
            guard let active else { preconditionFailure("appended without an active file") }
            if active.first == nil { active.first = first }
            active.last = last
            active.appendOffset += bytes
        }
    }

    /// First LSN that the files still hold.
    package var oldestLSN: LSN? { lock.withLock { sealed.first?.first ?? active?.first } }

    package func closeAll() {
        lock.withLock {
            for file in sealed { file.file.close() }
            active?.file.close()
            for file in prepared { file.file.close() }
        }
    }
}
