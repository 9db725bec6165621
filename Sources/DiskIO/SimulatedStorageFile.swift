// An open file of a simulated storage: the checks a kernel makes, the faults, then the inode.

#if canImport(Glibc)
    import Glibc
#endif

/// A handle; dead after the crash or kill that follows its opening.
public final class SimulatedFile: StorageFile, @unchecked Sendable {
    // @unchecked: all state is touched under the storage's lock.
    private let storage: SimulatedStorage
    private let inode: SimulatedInode
    private let options: OpenOptions
    private let generation: UInt64
    private var isClosed = false

    init(
        _ storage: SimulatedStorage, _ inode: SimulatedInode, path: String, _ options: OpenOptions
    ) {
        self.storage = storage
        self.inode = inode
        self.options = options
        generation = storage.generation
        super.init(path: path)
    }

    deinit { close() }

    public override var isBlockDevice: Bool { inode.deviceBytes != nil }

    /// Throws when the handle is dead, closed or not for writing. The lock is held.
    private func check(_ operation: IOError.Operation, isChange: Bool = false) throws(IOError) {
        if generation != storage.generation {
            throw IOError(operation, path, SimulatedStorage.crashCode)
        }
        try storage.checkPower(operation, path)
        if isClosed || (isChange && options.access == .readOnly) {
            throw IOError(operation, path, EBADF)
        }
    }

    private static func isAligned(_ value: Int) -> Bool { value % 512 == 0 }

    // MARK: Reading

    public override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) -> Int {
        storage.lock()
        defer { storage.unlock() }
        try check(.read)
        guard target.count > 0, let base = target.baseAddress else { return 0 }
        if options.isDirect {
            guard Self.isAligned(target.count), offset % 512 == 0,
                Self.isAligned(Int(bitPattern: base))
            else { throw IOError(.read, path, EINVAL) }
        }
        if case .error(let code)? = storage.planned(.read, path) {
            throw IOError(.read, path, code)
        }
        if storage.random.chance(storage.activeFaults.readErrorRatio) {
            throw IOError(.read, path, EIO)
        }
        guard offset < inode.cached.size else { return 0 }
        let count = Int(min(UInt64(target.count), inode.cached.size - offset))
        if !inode.unreadableSectors.isEmpty {
            for sector in offset / 512...(offset + UInt64(count) - 1) / 512
            where inode.unreadableSectors.contains(sector) {
                throw IOError(.read, path, EIO)
            }
        }
        let filled = UnsafeMutableRawBufferPointer(rebasing: target[..<count])
        inode.cached.read(into: filled, at: offset)
        return count
    }

    public override func size() throws(IOError) -> UInt64 {
        storage.lock()
        defer { storage.unlock() }
        try check(.size)
        return inode.cached.size
    }

    public override func nextData(from offset: UInt64) throws(IOError) -> Range<UInt64>? {
        storage.lock()
        defer { storage.unlock() }
        try check(.read)
        if let end = inode.deviceBytes { return offset < end ? offset..<end : nil }
        return inode.cached.nextData(from: offset)
    }

    // MARK: Writing

    public override func writeSome(
        _ vectors: UnsafeBufferPointer<IOVector>, at offset: UInt64, _ durability: Durability
    ) throws(IOError) -> Int {
        storage.lock()
        defer { storage.unlock() }
        try check(.write, isChange: true)
        var total = 0
        for vector in vectors { total += vector.count }
        guard total > 0 else { throw IOError(.write, path, EINVAL) }
        if options.isDirect { try checkAlignment(vectors, at: offset) }

        let outcome = try storage.begin(.write, path, offset: offset, count: UInt64(total))
        var count = try room(for: total, at: offset)
        var failure: Int32?
        var effect: PlannedFault.Effect? = chanceEffect()
        if case .planned(let planned) = outcome { effect = planned }
        var position = offset
        switch effect {
        case .error(let code):
            failure = code
            count = storage.random.below(count + 1)
        case .short: count = shortened(count)
        case .lost: return count
        case .misdirected: position = misdirected(offset, count: count)
        case nil: break
        }
        if case .powerLost = outcome { failure = SimulatedStorage.crashCode }
        let isCertain = durability == .immediate && failure == nil
        inode.write(vectors, count: count, at: position, isCertain: isCertain)
        if let failure { throw IOError(.write, path, failure) }
        return count
    }

    private func checkAlignment(
        _ vectors: UnsafeBufferPointer<IOVector>, at offset: UInt64
    ) throws(IOError) {
        var isAligned = offset % 512 == 0
        for vector in vectors
        where !Self.isAligned(vector.count) || !Self.isAligned(Int(bitPattern: vector.base)) {
            isAligned = false
        }
        if !isAligned { throw IOError(.write, path, EINVAL) }
    }

    private func chanceEffect() -> PlannedFault.Effect? {
        let faults = storage.activeFaults
        if storage.random.chance(faults.writeErrorRatio) { return .error(EIO) }
        if storage.random.chance(faults.shortWriteRatio) { return .short }
        if storage.random.chance(faults.lostWriteRatio) { return .lost }
        if storage.random.chance(faults.misdirectedWriteRatio) { return .misdirected }
        return nil
    }

    /// At least one byte, or one sector with O_DIRECT; less than `count` where that can be.
    private func shortened(_ count: Int) -> Int {
        let unit = options.isDirect ? 512 : 1
        guard count > unit else { return count }
        return (1 + storage.random.below(count / unit - (count % unit == 0 ? 1 : 0))) * unit
    }

    /// Another place in the file for the same bytes.
    private func misdirected(_ offset: UInt64, count: Int) -> UInt64 {
        let room = inode.cached.size > UInt64(count) ? inode.cached.size - UInt64(count) : 0
        let sectors = Int(room / 512) + 1
        return UInt64(storage.random.below(sectors)) * 512 + offset % 512
    }

    /// How many of `count` bytes find room at `offset`; ENOSPC when none does.
    private func room(for count: Int, at offset: UInt64) throws(IOError) -> Int {
        if let end = inode.deviceBytes {
            guard offset < end else { throw IOError(.write, path, ENOSPC) }
            return Int(min(UInt64(count), end - offset))
        }
        guard var free = storage.freePages else { return count }
        let pageBytes = UInt64(SimulatedPage.bytes)
        for page in offset / pageBytes...(offset + UInt64(count) - 1) / pageBytes
        where !inode.cached.hasPage(page) {
            if free == 0 {
                let fitting = page * pageBytes > offset ? Int(page * pageBytes - offset) : 0
                if fitting == 0 { throw IOError(.write, path, ENOSPC) }
                return fitting
            }
            free -= 1
        }
        return count
    }

    public override func sync() throws(IOError) {
        storage.lock()
        defer { storage.unlock() }
        try check(.sync)
        var code: Int32?
        switch try storage.begin(.sync, path) {
        case .powerLost: throw IOError(.sync, path, SimulatedStorage.crashCode)
        case .planned(.error(let planned)): code = planned
        case .good, .planned:
            if storage.random.chance(storage.activeFaults.syncErrorRatio) { code = EIO }
        }
        guard let code else { return inode.sync() }
        let ratio = storage.activeFaults.evictionAfterSyncErrorRatio
        inode.failSync(evicting: storage.random.chance(ratio), &storage.random)
        throw IOError(.sync, path, code)
    }

    // MARK: Size and space

    /// Counts the call, makes the change unless a plan refuses it, throws when the power went.
    private func change(
        _ operation: IOError.Operation, offset: UInt64, count: UInt64, _ body: () -> Void
    ) throws(IOError) {
        switch try storage.begin(operation, path, offset: offset, count: count) {
        case .planned(.error(let code)): throw IOError(operation, path, code)
        case .good, .planned: body()
        case .powerLost:
            body()
            throw IOError(operation, path, SimulatedStorage.crashCode)
        }
    }

    public override func truncate(to size: UInt64) throws(IOError) {
        storage.lock()
        defer { storage.unlock() }
        try check(.truncate, isChange: true)
        if isBlockDevice { return }
        try change(.truncate, offset: size, count: 0) { inode.resize(to: size) }
    }

    public override func allocate(offset: UInt64, count: UInt64) throws(IOError) {
        storage.lock()
        defer { storage.unlock() }
        try check(.allocate, isChange: true)
        if isBlockDevice { throw IOError(.allocate, path, ENODEV) }
        guard count > 0 else { throw IOError(.allocate, path, EINVAL) }
        guard try room(for: Int(count), at: offset) == Int(count) else {
            throw IOError(.allocate, path, ENOSPC)
        }
        try change(.allocate, offset: offset, count: count) {
            inode.reserve(offset: offset, count: count)
        }
    }

    public override func punchHole(offset: UInt64, count: UInt64) throws(IOError) {
        storage.lock()
        defer { storage.unlock() }
        try check(.punch, isChange: true)
        let end = inode.cached.size
        guard count > 0, offset < end else { return }
        let length = min(count, end - offset)
        try change(.punch, offset: offset, count: length) {
            inode.zero(offset: offset, count: length)
        }
    }

    /// Takes the bytes of `source`; false when this file is not empty. The lock is held.
    func takeContent(of source: SimulatedFile) -> Bool {
        guard inode.cached.size == 0, inode.deviceBytes == nil, inode !== source.inode else {
            return false
        }
        var position: UInt64 = 0
        while let range = source.inode.cached.nextData(from: position) {
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: range.count, alignment: 16)
            defer { bytes.deallocate() }
            source.inode.cached.read(into: bytes, at: range.lowerBound)
            let vector = [IOVector(base: UnsafeRawPointer(bytes.baseAddress!), count: range.count)]
            vector.withUnsafeBufferPointer {
                inode.write($0, count: range.count, at: range.lowerBound, isCertain: false)
            }
            position = range.upperBound
        }
        inode.resize(to: source.inode.cached.size)
        return true
    }

    // MARK: Lock and close

    public override func tryLock() throws(IOError) -> Bool {
        storage.lock()
        defer { storage.unlock() }
        try check(.lock)
        if case .error(let code)? = storage.planned(.lock, path) {
            throw IOError(.lock, path, code)
        }
        let me = ObjectIdentifier(self)
        if let holder = inode.lockHolder, holder != me { return false }
        inode.lockHolder = me
        return true
    }

    public override func close() {
        storage.lock()
        defer { storage.unlock() }
        isClosed = true
        if inode.lockHolder == ObjectIdentifier(self) { inode.lockHolder = nil }
    }
}
