// A tape as a backup device: everything is appended, nothing is changed.
//
// A set on a tape, as records (a filemark is |):
//
//   label |  item item … journal |  item … journal |  …  manifest |  end |
//
//   label     a TapeBlock `label`: ids and name of the set, the id of this device
//   item      a SegmentHeader without digest, the bytes in records of 64 KiB (the last one
//             shorter), the same header with the digest
//   journal   a TapeBlock `journal`, then the Journal's records of the items since the last one
//   manifest  a TapeBlock `manifest` with the number of bytes, then the bytes in records
//   end       a TapeBlock `end`: the set is complete
//
// A set without `end` is unfinished; a run that goes on does so behind the last filemark after a
// journal. Items taken back stay on the tape, and no manifest names them. Where items lie is found
// by going over the tape once. Threads: one, as BackupDevice says.

import CLinux
import DiskIO

public final class TapeDevice: BackupDevice, @unchecked Sendable {
    // @unchecked: used by one thread at a time (BackupDevice).
    private let path: String
    private let capacity: UInt64?
    private var drive: TapeDrive?
    private var index: TapeIndex?
    private var identity: SetIdentity?
    private var deviceID: [UInt8] = []
    private var itemStart: UInt64?
    private var record: [UInt8] = []
    private var pending: [UInt8] = []
    private var written: UInt64 = 0
    /// Kept for journal and manifest.
    private var reserved: UInt64 = 0
    private var isEnding = false
    static let recordBytes = 64 << 10

    public init(name: String, path: String, capacity: UInt64?) {
        (self.path, self.capacity) = (path, capacity)
        super.init(name: name)
    }

    func on<R>(_ body: () throws(IOError) -> R) throws(DeviceFailure) -> R {
        do throws(IOError) {
            return try body()
        } catch {
            throw DeviceFailure(error)
        }
    }

    private func write(_ bytes: [UInt8]) throws(DeviceFailure) {
        guard let drive else { throw .offline("\(name): not opened") }
        written += UInt64(bytes.count)
        if let capacity, written + (isEnding ? 0 : reserved) > capacity {
            throw .full("\(path): its capacity is used up")
        }
        var failure: IOError?
        bytes.withUnsafeBytes { raw in
            do throws(IOError) { try drive.write(raw) } catch { failure = error }
        }
        if let failure { throw DeviceFailure(failure) }
    }

    private func filemark() throws(DeviceFailure) {
        guard let drive else { throw .offline("\(name): not opened") }
        try on { () throws(IOError) in try drive.writeFilemark() }
    }

    private func open(creates: Bool) throws(DeviceFailure) -> TapeDrive {
        if let drive { return drive }
        let path = path
        let opened = try on { () throws(IOError) in
            try TapeDrive.open(path, creates: creates)
        }
        drive = opened
        return opened
    }

    private func scan() throws(DeviceFailure) -> TapeIndex {
        if let index { return index }
        guard DiskStorage().exists(path) else { return TapeIndex() }
        let drive = try open(creates: false)
        let found = try on { () throws(IOError) in try TapeIndex(scanning: drive) }
        index = found
        return found
    }

    // MARK: - writing

    public override func unfinished(_ setName: String) throws(DeviceFailure) -> UnfinishedSet? {
        guard let last = try scan().sets.last, last.name == setName, !last.isComplete else {
            return nil
        }
        return UnfinishedSet(
            identity: SetIdentity(name: last.name, id: last.id, created: last.created),
            deviceID: last.deviceID, items: last.remembered, hasManifest: false)
    }

    public override func begin(
        _ identity: SetIdentity, deviceID: [UInt8], reserveBytes: UInt64
    ) throws(DeviceFailure) {
        let found = try scan()
        // Read-only until now.
        drive = nil
        index = nil
        (self.identity, self.deviceID) = (identity, deviceID)
        reserved = 2 * reserveBytes
        isEnding = false
        let drive = try open(creates: true)
        if let last = found.sets.last, last.id == identity.id, last.deviceID == deviceID {
            try on { () throws(IOError) in try drive.seek(to: last.resumeAt) }
            written = last.bytes
            return
        }
        try on { () throws(IOError) in
            if found.end == 0 { try drive.rewind() } else { try drive.seek(to: found.end) }
        }
        try write(
            TapeBlock(
                kind: "label",
                fields: [
                    (
                        "set",
                        String(decoding: PercentText.encoded(identity.name.utf8), as: UTF8.self)
                    ),
                    ("set-id", identity.id.hexText), ("device-id", deviceID.hexText),
                    ("created", "\(identity.created)"),
                ]
            ).encoded())
        try filemark()
    }

    public override func start(_ item: ItemToStore) throws(DeviceFailure) {
        guard let drive else { throw .offline("\(name): not opened") }
        itemStart = try on { () throws(IOError) in try drive.position() }
        isEnding = false
        record.removeAll(keepingCapacity: true)
        try write(item.header.encoded())
    }

    public override func append(_ bytes: UnsafeRawBufferPointer) throws(DeviceFailure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(Self.recordBytes - record.count)
            record.append(contentsOf: piece)
            rest = rest.dropFirst(piece.count)
            if record.count == Self.recordBytes { try flush() }
        }
    }

    private func flush() throws(DeviceFailure) {
        if record.isEmpty { return }
        try write(record)
        record.removeAll(keepingCapacity: true)
    }

    public override func skip(_ count: UInt64) throws(DeviceFailure) {
        let zeros = [UInt8](repeating: 0, count: Self.recordBytes)
        var left = count
        while left > 0 {
            let piece = Int(min(left, UInt64(zeros.count)))
            var failure: DeviceFailure?
            zeros.withUnsafeBytes { raw in
                do throws(DeviceFailure) {
                    try append(UnsafeRawBufferPointer(rebasing: raw[..<piece]))
                } catch { failure = error }
            }
            if let failure { throw failure }
            left -= UInt64(piece)
        }
    }

    public override func finish(_ item: ItemToStore) throws(DeviceFailure) -> UInt64 {
        try flush()
        try write(item.header.encoded())
        itemStart = nil
        let place = item.header.position + 1
        guard let remembered = item.remembered(place: place) else {
            throw .broken("\(name): an item without digest")
        }
        pending += Journal.item(remembered)
        return place
    }

    /// The head goes back: what is written next is over it.
    public override func drop() throws(DeviceFailure) {
        guard let drive, let start = itemStart else { return }
        itemStart = nil
        record.removeAll(keepingCapacity: true)
        try on { () throws(IOError) in try drive.seek(to: start) }
    }

    public override func discard(_ item: RememberedItem) throws(DeviceFailure) {
        pending += Journal.item(item, isTakenBack: true)
    }

    public override func sync() throws(DeviceFailure) {
        guard !pending.isEmpty, let identity else { return }
        isEnding = true
        defer { isEnding = false }
        let all = Journal.head(identity, deviceID: deviceID) + pending
        try write(TapeBlock(kind: "journal", fields: [("bytes", "\(all.count)")]).encoded())
        try writeAll(all)
        try filemark()
        pending.removeAll()
    }

    private func writeAll(_ bytes: [UInt8]) throws(DeviceFailure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            try write(Array(rest.prefix(Self.recordBytes)))
            rest = rest.dropFirst(Self.recordBytes)
        }
    }

    public override func writeManifest(
        _ encode: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws(DeviceFailure) {
        try sync()
        isEnding = true
        var bytes: [UInt8] = []
        do {
            try encode { bytes.append(contentsOf: $0) }
        } catch {
            throw .broken("\(error)")
        }
        try write(TapeBlock(kind: "manifest", fields: [("bytes", "\(bytes.count)")]).encoded())
        try writeAll(bytes)
        try filemark()
    }

    public override func commit() throws(DeviceFailure) {
        guard let identity else { throw .broken("\(name): not begun") }
        try write(TapeBlock(kind: "end", fields: [("set-id", identity.id.hexText)]).encoded())
        try filemark()
        suspend()
    }

    public override func suspend() {
        drive = nil
        index = nil
        itemStart = nil
    }

    // MARK: - reading

    public override func sets() throws(DeviceFailure) -> [SetOnDevice] {
        try scan().sets.enumerated().map { index, set in
            SetOnDevice(
                name: set.name, state: set.isComplete ? .complete : .unfinished,
                location: "\(index)", setID: set.id, deviceID: set.deviceID)
        }
    }

    private func found(_ set: SetOnDevice) throws(DeviceFailure) -> TapeIndex.Found {
        let sets = try scan().sets
        guard let index = Int(set.location), sets.indices.contains(index) else {
            throw .broken("\(name): the set is not there any more")
        }
        return sets[index]
    }

    public override func manifest(of set: SetOnDevice) throws(DeviceFailure) -> [UInt8] {
        let found = try found(set)
        let drive = try open(creates: false)
        guard let start = found.manifestAt else { throw .item("the set has no manifest") }
        return try on { () throws(IOError) in
            try drive.seek(to: start)
            var reader = TapeReader(drive)
            guard case .block(let block) = try reader.next(), let count = block.number("bytes")
            else { throw IOError(.read, path, 5) }
            return try reader.bytes(count) ?? []
        }
    }

    public override func read(
        _ item: StoredItem, source: [UInt8], path: [UInt8], of set: SetOnDevice,
        header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        let found = try found(set)
        let drive = try open(creates: false)
        guard item.place > 0, let start = found.items[item.place - 1] else {
            throw IOError(.read, self.path, 2)
        }
        try drive.seek(to: start)
        var reader = TapeReader(drive)
        guard case .header(let first) = try reader.next() else {
            header(nil)
            return
        }
        header(first)
        var left = first.size
        while left > 0 {
            guard case .data(let bytes) = try reader.next(rawBytes: true) else {
                throw IOError(.read, self.path, 5)
            }
            try bytes.withUnsafeBytes { try body(.bytes($0)) }
            left -= min(left, UInt64(bytes.count))
        }
    }

    public override func remove(_ set: SetOnDevice) throws(DeviceFailure) {
        throw .readOnly("a tape is only appended to: erase it as a whole to use it again")
    }
}
