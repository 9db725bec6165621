// What a test does to a simulated storage from outside: power, faults, damage, forks.

#if canImport(Glibc)
    import Glibc
#endif

extension SimulatedStorage {
    private func locked<T>(_ body: () -> T) -> T {
        lock()
        defer { unlock() }
        return body()
    }

    // MARK: Power

    /// Changing calls so far (write, sync, truncate, allocate, punch, clone, create, rename,
    /// remove, folder creation and sync); also the failed ones.
    public var operationCount: UInt64 { locked { operations } }

    /// The power goes during the changing call with this number (the first is 1).
    public func crash(atOperation number: UInt64) { locked { crashOperation = number } }

    /// The power goes now: every call throws `isSimulatedCrash` from here on. Threads of the
    /// simulated program end by that; join them before `crash`.
    public func powerOff() { locked { isPowerOff = true } }

    /// Whether the power is off.
    public var isDown: Bool { locked { isPowerOff } }

    /// The machine comes back after a power cut (now, when the power is still on): durable content
    /// and a random choice of what was not synced. All handles are dead, locks are free.
    public func crash() {
        locked {
            // Names first: a file removed only in memory is back, one named only in memory gone.
            namespace.crash(&random)
            for inode in namespace.files() {
                inode.crash(tornSectorRatio: activeFaults.tornSectorRatio, &random)
            }
            restart()
        }
    }

    /// Only the program dies (kill -9): everything it wrote stays, also what is not yet durable.
    /// All handles are dead, locks are free. After `crash(atOperation:)` has struck, this is a
    /// program killed at that call instead of a power cut.
    public func kill() {
        locked {
            for inode in namespace.files() { inode.lockHolder = nil }
            restart()
        }
    }

    private func restart() {
        generation += 1
        isPowerOff = false
        crashOperation = nil
    }

    // MARK: Faults

    /// The chances in force.
    public var faults: SimulatedFaults {
        get { locked { activeFaults } }
        set { locked { activeFaults = newValue } }
    }

    public func inject(_ fault: PlannedFault) { locked { plan.append(fault) } }

    /// Planned faults that have not struck yet.
    public var plannedFaults: [PlannedFault] {
        get { locked { plan } }
        set { locked { plan = newValue } }
    }

    /// Forgets what the page cache holds of data that a failed sync dropped: reads then show what
    /// is on the disk.
    public func evictCaches() { locked { for inode in namespace.files() { inode.evict() } } }

    // MARK: Damage at rest

    private func inode(_ path: String) -> SimulatedInode? {
        guard case .file(let inode)? = namespace.node(path) else { return nil }
        return inode
    }

    /// Flips bit `bit` of the file (bit 0 is the lowest of byte 0). False when it is not there.
    @discardableResult
    public func corrupt(_ path: String, bit: UInt64) -> Bool {
        locked {
            guard let inode = inode(path), bit / 8 < inode.cached.size else { return false }
            inode.flip(byte: bit / 8, mask: 1 << UInt8(bit % 8))
            return true
        }
    }

    /// Reads of these sectors fail with EIO until they are written again.
    public func makeUnreadable(_ path: String, sectors: Range<UInt64>) {
        locked { inode(path)?.unreadableSectors.formUnion(sectors) }
    }

    // MARK: Worlds

    /// A storage with the same files, synced and not synced, and the same faults; its own random
    /// source, no planned crash, no planned faults, no locks. Cheap: bytes are shared until one
    /// side writes.
    public func fork(seed: UInt64) -> SimulatedStorage {
        locked {
            let twin = SimulatedStorage(seed: seed, faults: activeFaults)
            twin.namespace = namespace.copy()
            twin.isPowerOff = isPowerOff
            return twin
        }
    }

    /// Adds a block device of this size, durable at once. Its folder must exist.
    public func addDevice(_ path: String, byteCount: UInt64) throws(IOError) {
        lock()
        defer { unlock() }
        guard let parent = namespace.parent(path), parent.directory.entries[parent.name] == nil
        else { throw IOError(.create, path, EEXIST) }
        let node = SimulatedNode.file(SimulatedInode(deviceBytes: byteCount))
        namespace.apply([.init(directory: parent.directory, name: parent.name, node: node)])
        namespace.sync(parent.directory)
    }

    // MARK: Trace

    /// While true every changing call is remembered in `trace`.
    public var tracing: Bool {
        get { locked { isTracing } }
        set { locked { isTracing = newValue } }
    }

    public var trace: [SimulatedOperation] { locked { tracedOperations } }
}
