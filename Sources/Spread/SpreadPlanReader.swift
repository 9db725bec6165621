// Reads a plan that `spread plan --output` wrote, perhaps edited since: keys in any order within an
// object, but devices and sources before items. What it returns is a plan that can be carried out:
// devices and sources are known, each file is covered once a copy, no copies share a device.

/// A plan from a file.
public struct SpreadPlanFile: Sendable {
    public var plan: SpreadPlan
    /// The files of the plan, in the order of its items. Sizes are those of the pieces together;
    /// further hard links are files without bytes.
    public var sources: SourceList
    /// With mode, order, copies, item cost and folders as planned.
    public var options: SpreadOptions

    /// Why a text is no plan.
    public enum Fault<Failure: Error>: Error {
        case source(Failure)
        case syntax(at: UInt64, expected: String)
        /// Well-formed, but not a plan that can be carried out.
        case invalid(String)
    }

    /// `refill` reads the file from its start, piece by piece; 0 at the end.
    public static func read<Failure: Error>(
        _ refill: @escaping (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
    ) throws(Fault<Failure>) -> SpreadPlanFile {
        var builder = PlanBuilder()
        var scanner = JSONScanner<Failure>(refill)
        do throws(JSONScanner<Failure>.Fault) {
            try builder.read(&scanner)
        } catch {
            switch error {
            case .source(let failure): throw .source(failure)
            case .syntax(let position, let expected):
                if let invalid = builder.invalid { throw .invalid(invalid) }
                throw .syntax(at: position, expected: expected)
            }
        }
        do throws(PlanBuilder.Invalid) {
            return try builder.finish()
        } catch {
            throw .invalid(error.reason)
        }
    }
}

/// Collects a plan while it is read.
private struct PlanBuilder {
    struct Invalid: Error {
        var reason: String
    }

    private var sources = SourceList()
    private var sourceNumbers: [String: Int] = [:]
    private var deviceNumbers: [String: Int] = [:]
    private var devices: [PlannedDevice] = []
    private var options = SpreadOptions()
    private var folders: [(source: String, path: [UInt8])] = []
    private var items = SpreadItems()
    private var isPlan = false
    private var threshold: UInt64 = 0
    private var index = EntryIndex()
    /// Set when reading ends because of what was read, not how it is written.
    private(set) var invalid: String?

    mutating func read<F>(_ scanner: inout JSONScanner<F>) throws(JSONScanner<F>.Fault) {
        try scanner.object { scanner, key throws(JSONScanner<F>.Fault) in
            switch key {
            case "format": isPlan = try scanner.string() == SpreadPlan.formatName
            case "version":
                if try scanner.number() > SpreadPlan.formatVersion {
                    throw refuse("it was written by a newer logdisk", scanner)
                }
            case "sources":
                try scanner.array { scanner throws(JSONScanner<F>.Fault) in
                    let name = try scanner.string()
                    if sourceNumbers[name] != nil || sources.names.count == SourceList.sourcesMax {
                        throw refuse("source '\(name)' is there twice", scanner)
                    }
                    sourceNumbers[name] = sources.addSource(name)
                }
            case "copies": options.copies = Int(clamping: try scanner.number())
            case "item_cost": options.itemCost = try scanner.number()
            case "keep_together":
                try scanner.array { scanner throws(JSONScanner<F>.Fault) in
                    try readFolder(&scanner)
                }
            case "threshold": threshold = try scanner.number()
            case "mode":
                guard let mode = SpreadMode(rawValue: try scanner.string()) else {
                    throw refuse("unknown mode", scanner)
                }
                options.mode = mode
            case "order":
                guard let order = SpreadOrder(rawValue: try scanner.string()) else {
                    throw refuse("unknown order", scanner)
                }
                options.order = order
            case "devices":
                try scanner.array { scanner throws(JSONScanner<F>.Fault) in
                    try readDevice(&scanner)
                }
            case "items":
                try scanner.array { scanner throws(JSONScanner<F>.Fault) in
                    try readItem(&scanner)
                }
            default: throw refuse("unknown key '\(key)'", scanner)
            }
        }
        try scanner.expectEnd()
    }

    private mutating func refuse<F>(
        _ reason: String, _ scanner: JSONScanner<F>
    ) -> JSONScanner<F>.Fault {
        invalid = reason
        return scanner.fault("")
    }

    private mutating func readFolder<F>(
        _ scanner: inout JSONScanner<F>
    ) throws(JSONScanner<F>.Fault) {
        var folder = (source: "", path: [UInt8]())
        try scanner.object { scanner, key throws(JSONScanner<F>.Fault) in
            switch key {
            case "source": folder.source = try scanner.string()
            case "path": folder.path = try readPath(&scanner)
            default: throw refuse("unknown key '\(key)'", scanner)
            }
        }
        folders.append(folder)
    }

    private mutating func readPath<F>(
        _ scanner: inout JSONScanner<F>
    ) throws(JSONScanner<F>.Fault) -> [UInt8] {
        guard let path = PathText.bytes(try scanner.stringBytes()) else {
            throw refuse("a path with a NUL", scanner)
        }
        return path
    }

    private mutating func readDevice<F>(
        _ scanner: inout JSONScanner<F>
    ) throws(JSONScanner<F>.Fault) {
        var device = PlannedDevice(name: "", bytes: 0, items: 0, capacity: nil)
        try scanner.object { scanner, key throws(JSONScanner<F>.Fault) in
            switch key {
            case "name": device.name = try scanner.string()
            case "bytes", "items": _ = try scanner.number()  // follow from the items
            case "capacity": device.capacity = try scanner.optionalNumber()
            case "available": device.isAvailable = try scanner.boolean()
            default: throw refuse("unknown key '\(key)'", scanner)
            }
        }
        if deviceNumbers[device.name] != nil || devices.count == Int(UInt16.max) {
            throw refuse("device '\(device.name)' is there twice", scanner)
        }
        deviceNumbers[device.name] = devices.count
        devices.append(device)
    }

    private mutating func readItem<F>(
        _ scanner: inout JSONScanner<F>
    ) throws(JSONScanner<F>.Fault) {
        var source: Int?
        var device: Int?
        var path: [UInt8] = []
        var item = SpreadItem(entry: 0, offset: 0, size: 0, device: 0, rule: .leastFilled)
        try scanner.object { scanner, key throws(JSONScanner<F>.Fault) in
            switch key {
            case "source": source = sourceNumbers[try scanner.string()]
            case "device": device = deviceNumbers[try scanner.string()]
            case "path": path = try readPath(&scanner)
            case "offset": item.offset = try scanner.number()
            case "size": item.size = try scanner.number()
            case "rule":
                let word = try scanner.string()
                guard let rule = SpreadRule.allCases.first(where: { $0.word == word }) else {
                    throw refuse("unknown rule '\(word)'", scanner)
                }
                item.rule = rule
            default: throw refuse("unknown key '\(key)'", scanner)
            }
        }
        guard let source, let device, devices[device].isAvailable else {
            throw refuse("an item of an unknown source or device", scanner)
        }
        let end = item.offset.addingReportingOverflow(item.size)
        let total = devices[device].bytes.addingReportingOverflow(item.size)
        if end.overflow || total.overflow || items.count == SpreadPlanner.itemsMax {
            throw refuse("an item that is too large", scanner)
        }
        item.entry = index.entry(source, path, end: end.partialValue, in: &sources)
        item.device = device
        devices[device].bytes = total.partialValue
        devices[device].items += 1
        items.append(item)
    }

    /// Checks that every file is covered, once a copy and each time elsewhere.
    mutating func finish() throws(Invalid) -> SpreadPlanFile {
        if !isPlan { throw Invalid(reason: "it is no plan of logdisk spread") }
        if options.copies < 1 || options.copies > SpreadPlanner.copiesMax {
            throw Invalid(reason: "an impossible number of copies")
        }
        for device in devices {
            if let capacity = device.capacity, device.bytes > capacity {
                throw Invalid(reason: "more on '\(device.name)' than its capacity")
            }
        }
        for folder in folders {
            guard let source = sourceNumbers[folder.source] else {
                throw Invalid(reason: "a folder of an unknown source")
            }
            options.keepTogether.append(.init(source: source, path: folder.path))
        }
        let (list, sizes) = index.resolved(sources)
        try Self.checkCover(items, sizes: sizes, copies: options.copies, list)
        return SpreadPlanFile(
            plan: SpreadPlan(
                threshold: threshold, mode: options.mode, order: options.order,
                copies: options.copies, devices: devices, items: items),
            sources: list, options: options)
    }

    /// Sweeps over each file's pieces: at every place as many as copies, on different devices.
    private static func checkCover(
        _ items: SpreadItems, sizes: [UInt64], copies: Int, _ sources: SourceList
    ) throws(Invalid) {
        var order = Array(0..<UInt32(items.count))
        let packed = items.packed
        order.sort { a, b in
            let (a, b) = (packed[Int(a)], packed[Int(b)])
            return (a.entry, a.offset, a.device) < (b.entry, b.offset, b.device)
        }
        var open: [(end: UInt64, device: UInt16)] = []
        func wrong(_ entry: UInt32, _ what: String) -> Invalid {
            Invalid(reason: "'\(sources.pathText(Int(entry)))' \(what)")
        }
        var position = 0
        while position < order.count {
            let entry = packed[Int(order[position])].entry
            let size = sizes[Int(entry)]
            open.removeAll(keepingCapacity: true)
            while position < order.count, packed[Int(order[position])].entry == entry {
                let item = packed[Int(order[position])]
                // A piece begins at the start, or where one ends.
                if item.offset > 0 || size == 0 {
                    guard size == 0 || open.contains(where: { $0.end == item.offset }) else {
                        throw wrong(entry, "is not covered once a copy")
                    }
                    if let ended = open.firstIndex(where: { $0.end == item.offset && size > 0 }) {
                        open.remove(at: ended)
                    }
                }
                if item.size == 0 && size > 0 { throw wrong(entry, "has an empty piece") }
                let overlaps = open.contains {
                    $0.device == item.device && ($0.end > item.offset || size == 0)
                }
                if overlaps {
                    throw wrong(entry, "has two copies on one device")
                }
                open.append((item.offset + item.size, item.device))
                position += 1
            }
            if open.count != copies || open.contains(where: { $0.end != size }) {
                throw wrong(entry, "is not covered once a copy")
            }
        }
    }
}

/// Finds the entry of a path: open addressing over the paths in the list, 8 bytes a file.
private struct EntryIndex {
    private var slots = [UInt32](repeating: 0, count: 1024)  // 0: free, else entry + 1
    private var ends: [UInt64] = []

    mutating func entry(
        _ source: Int, _ path: [UInt8], end: UInt64, in sources: inout SourceList
    ) -> Int {
        if 2 * (ends.count + 1) > slots.count { grow(sources) }
        var slot = Self.hash(source, path[...]) & (slots.count - 1)
        while slots[slot] > 0 {
            let entry = Int(slots[slot] - 1)
            if sources.source(entry) == source, sources.path(entry) == path[...] {
                ends[entry] = max(ends[entry], end)
                return entry
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        ends.append(end)
        let entry = sources.add(source: source, path: path, size: 0)
        slots[slot] = UInt32(entry + 1)
        return entry
    }

    private mutating func grow(_ sources: SourceList) {
        slots = [UInt32](repeating: 0, count: 2 * slots.count)
        for entry in ends.indices {
            var slot = Self.hash(sources.source(entry), sources.path(entry)) & (slots.count - 1)
            while slots[slot] > 0 { slot = (slot + 1) & (slots.count - 1) }
            slots[slot] = UInt32(entry + 1)
        }
    }

    /// FNV-1a.
    private static func hash(_ source: Int, _ path: ArraySlice<UInt8>) -> Int {
        var value: UInt64 = 0xcbf2_9ce4_8422_2325 ^ UInt64(source)
        for byte in path { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return Int(truncatingIfNeeded: (value ^ value >> 32) & 0x7FFF_FFFF)
    }

    /// The list with the sizes that the pieces add up to.
    func resolved(_ sources: SourceList) -> (SourceList, [UInt64]) {
        (sources.withSizes(ends), ends)
    }
}
