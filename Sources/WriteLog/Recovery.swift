// Recovery: from what lies in the WAL folder to the valid prefix of the log.
//
// Decided per file, from its header and name (FileCase), in this order:
//
//   header            volume   name      case         what happens
//   later version     any      any       future       refused, untouched
//   valid             another  any       foreign      refused, untouched
//   valid             ours     differs   recycling    ignored: nothing needed gets another name
//   valid             ours     agrees    usable       read
//   damaged           -        -         unreadable   ignored if a later usable file begins at or
//                                                     before the checkpoint, else counts as damage
//
// Then the usable files are read in order from the last one that begins at or before the
// checkpoint + 1. The prefix ends at the first record that is missing or invalid (EndCase):
//
//   an unreadable   superblock or    prefix       it broke off,  case      what happens
//   or shortened    later record     reaches the  and a later
//   file may hold   declares a miss- checkpoint   record exists
//   what follows    ing LSN durable
//   yes             any              any          any            damaged   refused (13)
//   no              yes              any          any            damaged   refused (13)
//   no              no               no           yes            damaged   refused (13): what lies
//                                                                          behind may count
//   no              no               no           no             behind    goes on at the
//                                                                          checkpoint
//   no              no               yes          any            ended     goes on after the pre-
//                                                                          fix; what lies behind
//                                                                          was never acknowledged
//
// "Behind" is the rule when everything up to the checkpoint is archived and given free, and nothing
// came after it, or only an append that was cut short.
//
// Records of an epoch at or after the first LSN of a later epoch never count: recovery cut them
// off once. RecoveryTests walks all combinations.

import BlockModel
import DiskIO
import LogFormat

/// What a WAL file in the folder is to recovery.
public enum FileCase: Hashable, Sendable {
    case usable, recycling, unreadable, foreign
    case future(UInt32)

    public static func decide(
        header: Result<WALFileHeader, WALFileHeader.DecodeFailure>, sequence: UInt64,
        volume: VolumeID
    ) -> FileCase {
        switch header {
        case .failure(.futureVersion(let version)): return .future(version)
        case .failure(.damaged): return .unreadable
        case .success(let header):
            if header.volume != volume { return .foreign }
            return header.sequence == sequence ? .usable : .recycling
        }
    }
}

/// How the log ends.
public enum EndCase: Hashable, Sendable {
    case ended, behind, damaged

    public static func decide(
        damagedFileMayFollow: Bool, laterRecordClaimsMissing: Bool, reachesCheckpoint: Bool,
        brokeOffBeforeLaterRecord: Bool
    ) -> EndCase {
        if damagedFileMayFollow || laterRecordClaimsMissing { return .damaged }
        if reachesCheckpoint { return .ended }
        return brokeOffBeforeLaterRecord ? .damaged : .behind
    }
}

/// What the log holds.
public struct LogContents: Sendable {
    /// Files that hold records of the prefix, in order, with first and last LSN.
    public struct File: Sendable {
        public let path: String
        public let header: WALFileHeader
        public var first: LSN
        public var last: LSN
        /// What its records take; the whole file where only the LSNs are known.
        public let recordBytes: UInt64
    }
    public var files: [File] = []
    /// Files that hold nothing needed: to be recycled.
    public var unneeded: [String] = []
    public var end: EndCase = .ended
    /// Newest record of the valid prefix, or the checkpoint where the log is behind it.
    public var last: Stamp
    /// The newest missing LSN that the superblock, or a record behind the prefix, declares durable.
    public var claimed: LSN?
    public var highestSequence: UInt64 = 0
    public var highestEpoch: UInt64 = 0
    /// Bytes behind the checkpoint that were read.
    public var redoneRecords = 0
    public var redoneBytes: UInt64 = 0

    /// Bytes of the records after `lsn`, roughly.
    public func bytes(after lsn: LSN) -> UInt64 {
        files.reduce(0) { $0 + shareOfBytes($1.recordBytes, of: $1.first...$1.last, after: lsn) }
    }
}

/// How many of the `bytes` of the records `held` are of those after `lsn`: by their share of LSNs.
func shareOfBytes(_ bytes: UInt64, of held: ClosedRange<LSN>, after lsn: LSN) -> UInt64 {
    let (first, last) = (held.lowerBound, held.upperBound)
    guard last > lsn else { return 0 }
    let records = last.rawValue - first.rawValue + 1
    let wanted = last.rawValue - max(lsn.rawValue, first.rawValue - 1)
    return UInt64(Double(bytes) * (Double(wanted) / Double(records)))
}

public enum RecoveryError: Error, Sendable {
    case foreignFile(String)
    case futureVersion(String, UInt32)
    case io(IOError)
}

/// Reads the log of the volume that `superblock` tells of; see the other `readLog`.
public func readLog(
    in directory: String, on storage: Storage, superblock: Superblock,
    redo: (LogRecord) throws(IOError) -> Void
) throws(RecoveryError) -> LogContents {
    try readLog(
        in: directory, on: storage, volume: superblock.volume, checkpoint: superblock.checkpoint,
        durable: superblock.durableLSN, epoch: (superblock.epoch, superblock.epochFirstLSN),
        redo: redo)
}

/// Reads the log. Calls `redo` for each record after the checkpoint, in LSN order, with the payload
/// borrowed. `checkpoint`, `durable` and `epoch` are the superblock's: the newest epoch, and its
/// first LSN, which no file may tell of any more. Writes nothing itself.
public func readLog(
    in directory: String, on storage: Storage, volume: VolumeID, checkpoint: Stamp,
    durable: LSN, epoch: (number: UInt64, first: LSN) = (0, .max),
    redo: (LogRecord) throws(IOError) -> Void
) throws(RecoveryError) -> LogContents {
    do {
        var reader = try LogRecovery(
            directory: directory, storage: storage, volume: volume, checkpoint: checkpoint,
            durable: durable, newest: epoch)
        return try reader.run(redo)
    } catch let error as RecoveryError {
        throw error
    } catch let error as IOError {
        throw .io(error)
    } catch {
        preconditionFailure("unexpected error \(error)")
    }
}

private struct LogRecovery {
    let storage: Storage
    let checkpoint: Stamp
    let durable: LSN
    /// The epoch of the superblock.
    let newest: (number: UInt64, first: LSN)
    let window = AlignedBuffer(count: WALFileCursor.windowBytes)
    var usable: [FoundWALFile] = []
    var contents: LogContents
    var unreadable: [FoundWALFile] = []
    /// A readable record lies behind the prefix.
    var laterRecordExists = false

    init(
        directory: String, storage: Storage, volume: VolumeID, checkpoint: Stamp, durable: LSN,
        newest: (number: UInt64, first: LSN)
    ) throws {
        self.storage = storage
        self.durable = durable
        self.newest = newest
        self.checkpoint = checkpoint
        contents = LogContents(last: checkpoint)
        for file in try findWALFiles(in: directory, on: storage, window: window) {
            contents.highestSequence = max(contents.highestSequence, file.sequence)
            switch FileCase.decide(header: file.header, sequence: file.sequence, volume: volume) {
            case .usable: usable.append(file)
            case .recycling: contents.unneeded.append(file.path)
            case .unreadable: unreadable.append(file)
            case .foreign: throw RecoveryError.foreignFile(file.path)
            case .future(let version): throw RecoveryError.futureVersion(file.path, version)
            }
        }
    }

    mutating func run(_ redo: (LogRecord) throws(IOError) -> Void) throws -> LogContents {
        let first = checkpoint.lsn.next
        let headers = usable.compactMap { try? $0.header.get() }
        contents.highestEpoch = headers.map(\.epoch).max() ?? 0
        // Begin with the last file whose first record is at or before checkpoint + 1.
        let begins = usable.map { $0.firstLSN }
        let start = begins.lastIndex { $0.map { $0 <= first } ?? false } ?? 0
        var expected: LSN? = start < begins.count ? begins[start] : nil
        if let lsn = expected, lsn > first { expected = nil }
        appendEarlierFiles(before: start)
        var stopped: (index: Int, cursor: WALFileCursor)?
        var lastHeld = Stamp.zero
        for index in start..<max(start, usable.count) {
            let header = headers[index]
            let limit = epochLimit(after: header.epoch, in: headers)
            let file = try storage.open(
                usable[index].path, OpenOptions(.readOnly, isDirect: true))
            var cursor = WALFileCursor(file: file, header: header, window: window)
            var held: (first: LSN, last: LSN)?
            while let wanted = expected, wanted < limit {
                let before = cursor
                guard let record = try cursor.next(), record.header.stamp.lsn == wanted else {
                    cursor = before
                    break
                }
                held = (held?.first ?? wanted, wanted)
                lastHeld = record.header.stamp
                expected = wanted.next
                if wanted > checkpoint.lsn {
                    try redo(record)
                    contents.redoneRecords += 1
                    contents.redoneBytes += UInt64(record.header.logBytes)
                }
            }
            if let held {
                contents.files.append(
                    .init(
                        path: usable[index].path, header: header, first: held.first,
                        last: held.last,
                        recordBytes: cursor.offset - UInt64(WALFileHeader.byteCount)))
                stopped = nil
            } else {
                contents.unneeded.append(usable[index].path)
            }
            if stopped == nil { stopped = (index, cursor) }
        }
        let end = expected?.previous ?? .zero
        if end >= checkpoint.lsn { contents.last = max(lastHeld, checkpoint) }
        let missing = max(end.next, first)
        if durable >= missing { contents.claimed = durable }
        try lookForClaims(missing: missing, from: stopped, headers: headers)
        contents.end = EndCase.decide(
            damagedFileMayFollow: unreadable.contains { mayFollow($0) }
                || usable[min(start, usable.count)...].contains { $0.isCutShort },
            laterRecordClaimsMissing: contents.claimed != nil,
            reachesCheckpoint: end >= checkpoint.lsn,
            brokeOffBeforeLaterRecord: expected != nil && laterRecordExists)
        contents.unneeded += unreadable.filter { !mayFollow($0) }.map(\.path)
        return contents
    }

    /// Records of files wholly before the checkpoint, still waiting to be archived: bounds only.
    private mutating func appendEarlierFiles(before start: Int) {
        for index in 0..<start {
            guard let first = usable[index].firstLSN,
                let header = try? usable[index].header.get()
            else {
                contents.unneeded.append(usable[index].path)
                continue
            }
            let next = usable[(index + 1)...start].lazy.compactMap(\.firstLSN).first
            guard let next, next > first else { continue }
            contents.files.append(
                .init(
                    path: usable[index].path, header: header, first: first, last: next.previous,
                    recordBytes: header.fileBytes - UInt64(WALFileHeader.byteCount)))
        }
    }

    private func epochLimit(after epoch: UInt64, in headers: [WALFileHeader]) -> LSN {
        let later = headers.lazy.filter { $0.epoch > epoch }.map(\.epochFirstLSN).min() ?? .max
        return newest.number > epoch ? min(later, newest.first) : later
    }

    /// A damaged file may hold what follows the prefix unless a later usable one begins at or
    /// before the checkpoint.
    private func mayFollow(_ file: FoundWALFile) -> Bool {
        !usable.contains {
            $0.sequence > file.sequence && ($0.firstLSN ?? .max) <= checkpoint.lsn.next
        }
    }

    private mutating func lookForClaims(
        missing: LSN, from stopped: (index: Int, cursor: WALFileCursor)?, headers: [WALFileHeader]
    ) throws(IOError) {
        guard let stopped else { return }
        for index in stopped.index..<usable.count {
            let limit = epochLimit(after: headers[index].epoch, in: headers)
            var cursor: WALFileCursor
            if index == stopped.index {
                cursor = stopped.cursor
            } else {
                let file = try storage.open(
                    usable[index].path, OpenOptions(.readOnly, isDirect: true))
                cursor = WALFileCursor(file: file, header: headers[index], window: window)
            }
            guard let claim = try cursor.claimedDurable(from: missing, below: limit) else {
                continue
            }
            laterRecordExists = true
            guard claim >= missing else { continue }
            contents.claimed = max(contents.claimed ?? .zero, claim)
        }
    }
}
