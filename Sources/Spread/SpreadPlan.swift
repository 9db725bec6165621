// The plan: which bytes of which file go to which device, in which order, and why. Made by
// SpreadPlanner, carried out by the executor, written and read as JSON (SpreadPlan+JSON.swift).
// Values; no input or output.

/// How the planner divides files.
public enum SpreadMode: String, Sendable, CaseIterable {
    /// Cut at the target: at most one cut fewer than devices.
    case balanced
    /// Files above the threshold become segments of at most the threshold, then one sorted list.
    case splitFirst = "split-first"
    /// Small files first, then large ones by the space remaining on each device.
    case smallFirst = "small-first"
}

/// How the list is sorted by size.
public enum SpreadOrder: String, Sendable, CaseIterable {
    case descending, ascending
}

/// Why an item is where it is, in a word.
public enum SpreadRule: UInt8, Sendable, CaseIterable {
    /// To the device that was then the least filled.
    case leastFilled
    /// A segment cut to the space remaining on the then least filled device.
    case remainingSpace
    /// Cut, or not on the least filled device, because of a capacity.
    case capacity
    /// A piece cut at the device's target.
    case target
    /// On the line of all copies, cut at the targets.
    case line
    /// Part of a folder that is kept together.
    case together
    /// A further hard link; beside the content that it shares.
    case link
    /// No bytes: to the device with the fewest items.
    case empty
    /// Planned again after a device failed.
    case replanned

    public var word: String {
        switch self {
        case .leastFilled: "least-filled"
        case .remainingSpace: "remaining-space"
        case .capacity: "capacity"
        case .target: "target"
        case .line: "line"
        case .together: "together"
        case .link: "link"
        case .empty: "empty"
        case .replanned: "replanned"
        }
    }
}

/// A file or a segment of one, and its device.
public struct SpreadItem: Hashable, Sendable {
    /// Index in the plan's SourceList.
    public var entry: Int
    /// Where the item begins in its file, in bytes.
    public var offset: UInt64
    /// In bytes.
    public var size: UInt64
    /// Index in the plan's devices.
    public var device: Int
    public var rule: SpreadRule

    public init(entry: Int, offset: UInt64, size: UInt64, device: Int, rule: SpreadRule) {
        self.entry = entry
        self.offset = offset
        self.size = size
        self.device = device
        self.rule = rule
    }
}

/// Items in 24 bytes each.
public struct SpreadItems: Sendable, RandomAccessCollection {
    /// An item as it is kept.
    struct Packed {
        var offset: UInt64
        var size: UInt64
        var entry: UInt32
        var device: UInt16
        var rule: SpreadRule
    }
    var packed: [Packed] = []

    public init() {}
    init(_ packed: [Packed]) { self.packed = packed }

    public var startIndex: Int { 0 }
    public var endIndex: Int { packed.count }

    public subscript(position: Int) -> SpreadItem {
        let item = packed[position]
        return SpreadItem(
            entry: Int(item.entry), offset: item.offset, size: item.size,
            device: Int(item.device), rule: item.rule)
    }

    public mutating func reserve(_ count: Int) { packed.reserveCapacity(count) }

    public mutating func append(_ item: SpreadItem) {
        packed.append(
            Packed(
                offset: item.offset, size: item.size, entry: UInt32(item.entry),
                device: UInt16(item.device), rule: item.rule))
    }
}

/// A device as the planner sees it.
public struct SpreadDevice: Hashable, Sendable {
    /// One unit of weight; weights are whole millionths so that every machine plans the same.
    public static let weightUnit: UInt64 = 1_000_000
    /// Products with sizes stay within 128 bits.
    public static let weightMax: UInt64 = 1 << 40

    /// As on the command line.
    public var name: String
    /// The most bytes that it may hold, `fill` included; nil: no limit known.
    public var capacity: UInt64?
    /// What its file system still takes, in bytes; nil: not known.
    public var free: UInt64?
    /// Its share of the load, in millionths; above 0.
    public var weight: UInt64
    /// In bytes a second.
    public var rate: UInt64?
    /// nil is a site too: the one here.
    public var site: String?
    /// A device that is not there takes nothing and does not count.
    public var isAvailable: Bool
    /// What it already holds of this job, in bytes and in items.
    public var fill: UInt64
    public var itemCount: Int

    public init(
        name: String, capacity: UInt64? = nil, free: UInt64? = nil,
        weight: UInt64 = Self.weightUnit, rate: UInt64? = nil, site: String? = nil,
        isAvailable: Bool = true, fill: UInt64 = 0,
        itemCount: Int = 0
    ) {
        self.name = name
        self.capacity = capacity
        self.free = free
        self.weight = weight
        self.rate = rate
        self.site = site
        self.isAvailable = isAvailable
        self.fill = fill
        self.itemCount = itemCount
    }
}

/// What the planner is asked for.
public struct SpreadOptions: Hashable, Sendable {
    public var mode: SpreadMode = .balanced
    public var order: SpreadOrder = .descending
    /// Each byte is on so many devices (balanced only if above 1).
    public var copies = 1
    /// Files larger than this are cut although they need not be; above 0.
    public var splitOver: UInt64?
    /// What an item costs besides its bytes, in bytes (balanced only).
    public var itemCost: UInt64 = 0
    /// Cuts lie at multiples of this in the file, where no capacity forbids it; above 0.
    public var block: UInt64 = 4096
    /// Folders whose files stay on one device: source number and path; empty for all of the source
    /// (balanced only).
    public var keepTogether: [Folder] = []

    public struct Folder: Hashable, Sendable {
        public var source: Int
        public var path: [UInt8]

        public init(source: Int, path: [UInt8]) {
            self.source = source
            self.path = path
        }
    }

    public init() {}
}

/// A device after planning.
public struct PlannedDevice: Hashable, Sendable {
    public var name: String
    /// What the plan puts there, and what was there before it.
    public var bytes: UInt64
    public var items: Int
    public var capacity: UInt64?
    public var isAvailable: Bool

    public init(
        name: String, bytes: UInt64, items: Int, capacity: UInt64?, isAvailable: Bool = true
    ) {
        self.name = name
        self.bytes = bytes
        self.items = items
        self.capacity = capacity
        self.isAvailable = isAvailable
    }
}

/// Which item goes where. Items start in the order of the list.
public struct SpreadPlan: Sendable {
    /// ceil(total / available devices), in bytes.
    public var threshold: UInt64
    public var mode: SpreadMode
    public var order: SpreadOrder
    public var copies: Int
    /// False when copies had to share a site although there are enough sites.
    public var sitesDiffer: Bool
    /// All devices in their order, also those not available.
    public var devices: [PlannedDevice]
    public var items: SpreadItems

    public init(
        threshold: UInt64, mode: SpreadMode, order: SpreadOrder, copies: Int = 1,
        sitesDiffer: Bool = true, devices: [PlannedDevice], items: SpreadItems
    ) {
        self.threshold = threshold
        self.mode = mode
        self.order = order
        self.copies = copies
        self.sitesDiffer = sitesDiffer
        self.devices = devices
        self.items = items
    }

    /// The bytes of the fullest device.
    public var makespan: UInt64 { devices.map(\.bytes).max() ?? 0 }
}
