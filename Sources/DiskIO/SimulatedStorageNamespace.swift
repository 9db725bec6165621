// The folders of a simulated storage. Names change in memory at once; on the disk when the folder
// is synced, or at a crash as far as the journal got. Not synchronised: the storage's lock orders
// all access.

final class SimulatedDirectory {
    /// Names as programs see them.
    var entries: [String: SimulatedNode] = [:]
    /// Names as a power cut leaves them for certain.
    var durable: [String: SimulatedNode] = [:]
}

enum SimulatedNode {
    case file(SimulatedInode)
    case directory(SimulatedDirectory)

    var identity: ObjectIdentifier {
        switch self {
        case .file(let inode): ObjectIdentifier(inode)
        case .directory(let directory): ObjectIdentifier(directory)
        }
    }
}

/// One atomic change of names: a creation, a removal, or a rename (which is two or more changes,
/// in one or two folders).
struct NameChange {
    struct Entry {
        var directory: SimulatedDirectory
        var name: String
        /// nil removes the name.
        var node: SimulatedNode?
    }
    var number: UInt64
    var entries: [Entry]
}

/// The tree of names and the journal of changes that no folder sync has covered.
struct SimulatedNamespace {
    private(set) var root = SimulatedDirectory()
    private var journal: [NameChange] = []
    private var lastNumber: UInt64 = 0

    // MARK: Look-up

    static func components(_ path: String) -> [Substring] {
        path.split(separator: "/").filter { $0 != "." }
    }

    /// The node at `path`; nil where there is none.
    func node(_ path: String) -> SimulatedNode? {
        var node = SimulatedNode.directory(root)
        for name in Self.components(path) {
            guard case .directory(let directory) = node,
                let next = directory.entries[String(name)]
            else { return nil }
            node = next
        }
        return node
    }

    /// The folder that holds the last name of `path`, and that name; nil where the folder is
    /// missing or `path` is the root.
    func parent(_ path: String) -> (directory: SimulatedDirectory, name: String)? {
        let names = Self.components(path)
        guard let last = names.last else { return nil }
        let folder = names.dropLast().joined(separator: "/")
        guard case .directory(let directory)? = node(folder) else { return nil }
        return (directory, String(last))
    }

    /// Every file that can be reached, sorted by name, so that the order is the same in each run.
    func files() -> [SimulatedInode] {
        var found: [SimulatedInode] = []
        func walk(_ directory: SimulatedDirectory) {
            for (_, node) in directory.entries.sorted(by: { $0.key < $1.key }) {
                switch node {
                case .file(let inode): found.append(inode)
                case .directory(let inner): walk(inner)
                }
            }
        }
        walk(root)
        return found
    }

    // MARK: Changes

    mutating func apply(_ entries: [NameChange.Entry]) {
        lastNumber += 1
        for entry in entries { entry.directory.entries[entry.name] = entry.node }
        journal.append(NameChange(number: lastNumber, entries: entries))
    }

    /// Makes the names of the folder durable. A rename between two folders is one transaction:
    /// it drags the other folder along up to itself.
    mutating func sync(_ directory: SimulatedDirectory) {
        var cuts = [ObjectIdentifier(directory): lastNumber]
        func reach(_ change: NameChange) -> Bool {
            change.entries.contains { change.number <= cuts[ObjectIdentifier($0.directory)] ?? 0 }
        }
        var hasGrown = true
        while hasGrown {
            hasGrown = false
            for change in journal where reach(change) {
                for entry in change.entries {
                    let identity = ObjectIdentifier(entry.directory)
                    if (cuts[identity] ?? 0) < change.number {
                        cuts[identity] = change.number
                        hasGrown = true
                    }
                }
            }
        }
        for change in journal where reach(change) { Self.settle(change) }
        journal.removeAll(where: reach)
    }

    /// The power goes and comes back: of each folder's changes a random prefix has happened.
    mutating func crash(_ random: inout SeededRandom) {
        var changes: [ObjectIdentifier: [UInt64]] = [:]
        var order: [ObjectIdentifier] = []
        for change in journal {
            for identity in Set(change.entries.map { ObjectIdentifier($0.directory) }) {
                if changes[identity] == nil { order.append(identity) }
                changes[identity, default: []].append(change.number)
            }
        }
        var cuts: [ObjectIdentifier: UInt64] = [:]
        for identity in order {
            let numbers = changes[identity] ?? []
            let kept: Int
            switch random.below(4) {
            case 0: kept = 0
            case 1: kept = numbers.count
            default: kept = random.below(numbers.count + 1)
            }
            cuts[identity] = kept == 0 ? 0 : numbers[kept - 1]
        }
        // A rename between folders happens in both or in neither.
        func isKept(_ change: NameChange) -> Bool {
            change.entries.allSatisfy { change.number <= cuts[ObjectIdentifier($0.directory)] ?? 0 }
        }
        var hasShrunk = true
        while hasShrunk {
            hasShrunk = false
            for change in journal where !isKept(change) {
                for entry in change.entries {
                    let identity = ObjectIdentifier(entry.directory)
                    if (cuts[identity] ?? 0) >= change.number {
                        cuts[identity] = change.number - 1
                        hasShrunk = true
                    }
                }
            }
        }
        for change in journal where isKept(change) { Self.settle(change) }
        journal = []
        showDurable(root)
    }

    private static func settle(_ change: NameChange) {
        for entry in change.entries { entry.directory.durable[entry.name] = entry.node }
    }

    private func showDurable(_ directory: SimulatedDirectory) {
        directory.entries = directory.durable
        for case .directory(let inner) in directory.entries.values { showDurable(inner) }
    }

    // MARK: Fork

    /// A deep copy; pages stay shared until one side writes.
    func copy() -> SimulatedNamespace {
        var known: [ObjectIdentifier: SimulatedNode] = [:]
        func copy(_ node: SimulatedNode) -> SimulatedNode {
            if let done = known[node.identity] { return done }
            switch node {
            case .file(let inode):
                let result = SimulatedNode.file(SimulatedInode(copying: inode))
                known[node.identity] = result
                return result
            case .directory(let directory):
                let twin = SimulatedDirectory()
                known[node.identity] = .directory(twin)
                twin.entries = directory.entries.mapValues(copy)
                twin.durable = directory.durable.mapValues(copy)
                return .directory(twin)
            }
        }
        var result = SimulatedNamespace()
        guard case .directory(let root) = copy(.directory(root)) else { return result }
        result.root = root
        result.lastNumber = lastNumber
        result.journal = journal.map { change in
            NameChange(
                number: change.number,
                entries: change.entries.map { entry in
                    guard case .directory(let directory) = copy(.directory(entry.directory)) else {
                        preconditionFailure("a folder's copy is a folder")
                    }
                    return NameChange.Entry(
                        directory: directory, name: entry.name, node: entry.node.map(copy))
                })
        }
        return result
    }
}
