// The fault-injecting twin of the disk: files in memory, everything decided by one seed.
//
// What it models
// --------------
// A Linux machine with a journalling file system on a disk with a volatile cache.
//
//   Data      A deferred write is seen by every later read, and is durable when a `sync` that
//             begins later returns. Until then a power cut may keep it, lose it, or keep any of
//             its sectors (512 bytes, each whole: a sector is atomic unless `tornSectorRatio`
//             says otherwise), independent of the order of writes. Sectors of different writes
//             reach the disk in any order; an overwritten version never comes after a newer one.
//             A write with `.immediate` is durable on return; the power may go during the call,
//             and then it is like any deferred write.
//   Sizes     Truncation, growth, holes and reservations of one file happen at a power cut up to
//             some point in their order. A file can be long and full of zeros (size kept, data
//             lost), or short (data written, size lost).
//   Names     Creations, removals and renames in one folder happen up to some point in their
//             order; all of them up to now once `syncDirectory` returns. A rename is atomic, also
//             between folders. Syncing a file does not make its name durable, and a durable name
//             does not make the content durable: a rename without a sync of the file before it
//             can leave an empty file.
//   Power     `crash(atOperation:)` lets the power go during the n-th changing call: the call and
//             all after it throw `isSimulatedCrash`. `crash()` then brings the machine back with
//             what the disk kept. `kill()` ends only the program: the page cache survives.
//             Handles from before either are dead.
//
// Which faults it injects (SimulatedFaults by chance, PlannedFault for certain, calls by hand)
// --------------------------------------------------------------------------------------------
//   short writes · EIO on read, write, sync · ENOSPC by capacity or at will, and gone again ·
//   a failed sync that drops the waiting data, so that the next sync succeeds (Linux since ever:
//   "fsyncgate") · misdirected and lost writes · bits flipped at rest (`corrupt`) · sectors that
//   cannot be read (`makeUnreadable`) · no reflinks.
//
// What it does not model: reads that give wrong bytes once, write-back that fails before the sync,
// permissions, symbolic and hard links, time. An unlinked file that is still open takes no space.
//
// Threads: any thread may call; one lock orders everything. With one thread a seed reproduces a
// run exactly.

#if canImport(Glibc)
    import Glibc
#endif

/// Files in memory with a fault model. See the head of this file.
public final class SimulatedStorage: Storage, @unchecked Sendable {
    // @unchecked: all state below is touched only between `lock` and `unlock`.

    /// The errno of every call while the power is off; no real call returns it.
    public static let crashCode: Int32 = 4095

    var namespace = SimulatedNamespace()
    var random: SeededRandom
    var activeFaults: SimulatedFaults
    var plan: [PlannedFault] = []
    var isPowerOff = false
    var crashOperation: UInt64?
    var operations: UInt64 = 0
    /// Rises at each crash and kill; handles of an older generation are dead.
    var generation: UInt64 = 0
    var isTracing = false
    var tracedOperations: [SimulatedOperation] = []
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    public init(seed: UInt64, faults: SimulatedFaults = .none) {
        random = SeededRandom(seed: seed)
        activeFaults = faults
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        super.init()
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func lock() { pthread_mutex_lock(mutex) }
    func unlock() { pthread_mutex_unlock(mutex) }

    // MARK: Decisions; the lock is held

    /// Throws while the power is off.
    func checkPower(_ operation: IOError.Operation, _ path: String) throws(IOError) {
        if isPowerOff { throw IOError(operation, path, Self.crashCode) }
    }

    /// Counts a changing call and decides how it goes.
    func begin(
        _ operation: IOError.Operation, _ path: String, offset: UInt64 = 0, count: UInt64 = 0
    ) throws(IOError) -> SimulatedOutcome {
        try checkPower(operation, path)
        operations += 1
        if isTracing {
            tracedOperations.append(
                SimulatedOperation(
                    number: operations, operation: operation, path: path, offset: offset,
                    count: count))
        }
        if operations == crashOperation {
            crashOperation = nil
            isPowerOff = true
            return .powerLost
        }
        return planned(operation, path).map { .planned($0) } ?? .good
    }

    /// The planned effect for this call, which is thereby used up; nil where none waits.
    func planned(_ operation: IOError.Operation, _ path: String) -> PlannedFault.Effect? {
        if plan.isEmpty { return nil }
        for index in plan.indices
        where plan[index].operation == operation
            && (plan[index].pathPart.isEmpty || path.contains(plan[index].pathPart))
        {
            if plan[index].skip > 0 {
                plan[index].skip -= 1
                continue
            }
            let effect = plan[index].effect
            plan[index].count -= 1
            if plan[index].count <= 0 { plan.remove(at: index) }
            return effect
        }
        return nil
    }

    /// A change of names: counted, refused by plan, or made; with the power gone it is made (and
    /// may or may not last) and throws.
    private func change(
        _ operation: IOError.Operation, _ path: String, _ entries: [NameChange.Entry]
    ) throws(IOError) {
        switch try begin(operation, path) {
        case .planned(.error(let code)): throw IOError(operation, path, code)
        case .good, .planned: namespace.apply(entries)
        case .powerLost:
            namespace.apply(entries)
            throw IOError(operation, path, Self.crashCode)
        }
    }

    // MARK: Storage

    public override func open(
        _ path: String, _ options: OpenOptions
    ) throws(IOError) -> StorageFile {
        lock()
        defer { unlock() }
        let operation: IOError.Operation = options.creation == .exclusively ? .create : .open
        try checkPower(operation, path)
        if case .error(let code)? = planned(.open, path) { throw IOError(.open, path, code) }
        switch namespace.node(path) {
        case .file(let inode)?:
            if options.creation == .exclusively { throw IOError(operation, path, EEXIST) }
            return SimulatedFile(self, inode, path: path, options)
        case .directory?:
            let isNew = options.creation == .exclusively
            throw IOError(operation, path, isNew ? EEXIST : EISDIR)
        case nil:
            guard options.creation != .never, let parent = namespace.parent(path) else {
                throw IOError(operation, path, ENOENT)
            }
            let inode = SimulatedInode()
            try change(
                .create, path,
                [.init(directory: parent.directory, name: parent.name, node: .file(inode))])
            return SimulatedFile(self, inode, path: path, options)
        }
    }

    public override func rename(_ source: String, to target: String) throws(IOError) {
        lock()
        defer { unlock() }
        try checkPower(.rename, source)
        guard let from = namespace.parent(source), let node = from.directory.entries[from.name],
            let to = namespace.parent(target)
        else { throw IOError(.rename, source, ENOENT) }
        if let old = to.directory.entries[to.name] {
            if old.identity == node.identity { return }
            switch (node, old) {
            case (.file, .directory): throw IOError(.rename, source, EISDIR)
            case (.directory, .file): throw IOError(.rename, source, ENOTDIR)
            case (.directory, .directory(let directory)) where !directory.entries.isEmpty:
                throw IOError(.rename, source, ENOTEMPTY)
            default: break
            }
        }
        try change(
            .rename, source,
            [
                .init(directory: from.directory, name: from.name, node: nil),
                .init(directory: to.directory, name: to.name, node: node),
            ])
    }

    public override func remove(_ path: String) throws(IOError) {
        lock()
        defer { unlock() }
        try checkPower(.remove, path)
        guard let parent = namespace.parent(path), let node = parent.directory.entries[parent.name]
        else { throw IOError(.remove, path, ENOENT) }
        if case .directory(let directory) = node, !directory.entries.isEmpty {
            throw IOError(.remove, path, ENOTEMPTY)
        }
        try change(
            .remove, path, [.init(directory: parent.directory, name: parent.name, node: nil)])
    }

    public override func createDirectory(_ path: String) throws(IOError) {
        lock()
        defer { unlock() }
        try checkPower(.createDirectory, path)
        guard namespace.node(path) == nil else { throw IOError(.createDirectory, path, EEXIST) }
        guard let parent = namespace.parent(path) else {
            throw IOError(.createDirectory, path, ENOENT)
        }
        let node = SimulatedNode.directory(SimulatedDirectory())
        try change(
            .createDirectory, path,
            [.init(directory: parent.directory, name: parent.name, node: node)])
    }

    public override func list(_ path: String) throws(IOError) -> [String] {
        lock()
        defer { unlock() }
        try checkPower(.list, path)
        if case .error(let code)? = planned(.list, path) { throw IOError(.list, path, code) }
        switch namespace.node(path) {
        case .directory(let directory)?: return directory.entries.keys.sorted()
        case .file?: throw IOError(.list, path, ENOTDIR)
        case nil: throw IOError(.list, path, ENOENT)
        }
    }

    public override func syncDirectory(_ path: String) throws(IOError) {
        lock()
        defer { unlock() }
        try checkPower(.syncDirectory, path)
        guard case .directory(let directory)? = namespace.node(path) else {
            let code = namespace.node(path) == nil ? ENOENT : ENOTDIR
            throw IOError(.syncDirectory, path, code)
        }
        switch try begin(.syncDirectory, path) {
        case .planned(.error(let code)): throw IOError(.syncDirectory, path, code)
        case .good, .planned: namespace.sync(directory)
        case .powerLost: throw IOError(.syncDirectory, path, Self.crashCode)
        }
    }

    public override func exists(_ path: String) -> Bool {
        lock()
        defer { unlock() }
        return !isPowerOff && namespace.node(path) != nil
    }

    public override func isDirectory(_ path: String) -> Bool {
        lock()
        defer { unlock() }
        if !isPowerOff, case .directory? = namespace.node(path) { return true }
        return false
    }

    public override func freeBytes(_ path: String) throws(IOError) -> UInt64 {
        lock()
        defer { unlock() }
        try checkPower(.size, path)
        guard namespace.node(path) != nil else { throw IOError(.size, path, ENOENT) }
        return freePages.map { $0 * UInt64(SimulatedPage.bytes) } ?? 1 << 40
    }

    public override func allocatedBytes(_ path: String) throws(IOError) -> UInt64 {
        lock()
        defer { unlock() }
        try checkPower(.size, path)
        switch namespace.node(path) {
        case .file(let inode)?: return inode.cached.allocatedBytes
        case .directory?: return 0
        case nil: throw IOError(.size, path, ENOENT)
        }
    }

    /// Copies the bytes: as with a real reflink, the next sync of `target` makes them durable.
    public override func clone(_ source: StorageFile, to target: StorageFile) -> Bool {
        guard let source = source as? SimulatedFile, let target = target as? SimulatedFile else {
            return false
        }
        lock()
        defer { unlock() }
        guard !isPowerOff, activeFaults.canClone else { return false }
        guard case .good? = try? begin(.clone, target.path) else { return false }
        return target.takeContent(of: source)
    }

    /// Pages that may still be taken; nil is no limit. The lock is held.
    var freePages: UInt64? {
        if activeFaults.isFull { return 0 }
        guard let capacity = activeFaults.capacityBytes else { return nil }
        let used = namespace.files().reduce(0) {
            $0 + ($1.deviceBytes == nil ? $1.cached.allocatedBytes : 0)
        }
        return capacity > used ? (capacity - used) / UInt64(SimulatedPage.bytes) : 0
    }
}
