// What plans are held to: the claims done directly and slowly, a checker that knows nothing of how
// a plan was made, and seeded lists of sizes.

import Spread

/// Small and quick random numbers (SplitMix64), the same for a seed on every machine.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }
}

enum PlanModel {
    static func sources(_ sizes: [UInt64]) -> SourceList {
        var list = SourceList()
        let source = list.addSource("/data")
        for (index, size) in sizes.enumerated() {
            list.add(source: source, path: "f\(index)".utf8, size: size)
        }
        return list
    }

    static func devices(_ count: Int) -> [SpreadDevice] {
        (0..<count).map { SpreadDevice(name: "dir:/d\($0)") }
    }

    static func options(
        _ mode: SpreadMode, _ order: SpreadOrder = .descending, block: UInt64 = 4096,
        copies: Int = 1
    ) -> SpreadOptions {
        var options = SpreadOptions()
        options.mode = mode
        options.order = order
        options.block = block
        options.copies = copies
        return options
    }

    // MARK: - the claims, directly

    struct Piece: Equatable {
        var entry: Int
        var offset: UInt64
        var size: UInt64
        var device: Int
    }

    static func pieces(_ plan: SpreadPlan) -> [Piece] {
        plan.items.map {
            Piece(entry: $0.entry, offset: $0.offset, size: $0.size, device: $0.device)
        }
    }

    private static func threshold(_ sizes: [UInt64], _ devices: Int) -> UInt64 {
        let total = sizes.reduce(0, +)
        var threshold: UInt64 = 0
        while threshold * UInt64(devices) < total { threshold += 1 }
        return threshold
    }

    /// Stable, by size alone.
    private static func sorted(_ list: [Piece], _ order: SpreadOrder) -> [Piece] {
        var result: [Piece] = []
        for piece in list {
            var place = result.count
            while place > 0,
                order == .descending
                    ? result[place - 1].size < piece.size : result[place - 1].size > piece.size
            {
                place -= 1
            }
            result.insert(piece, at: place)
        }
        return result
    }

    private static func leastFilled(_ fill: [UInt64]) -> Int {
        var best = 0
        for device in fill.indices where fill[device] < fill[best] { best = device }
        return best
    }

    /// Claims 10 to 16: split what exceeds the threshold, sort all together, place by list.
    static func splitFirst(_ sizes: [UInt64], _ devices: Int, _ order: SpreadOrder) -> [Piece] {
        let threshold = threshold(sizes, devices)
        var list: [Piece] = []
        for (entry, size) in sizes.enumerated() {
            var offset: UInt64 = 0
            repeat {
                let part = min(threshold, size - offset)
                list.append(Piece(entry: entry, offset: offset, size: part, device: 0))
                offset += part
            } while offset < size
        }
        var fill = [UInt64](repeating: 0, count: devices)
        return sorted(list, order).map { piece in
            var piece = piece
            piece.device = leastFilled(fill)
            fill[piece.device] += piece.size
            return piece
        }
    }

    /// Claims 19 to 24: small files first, by list; then large ones by the space remaining.
    static func smallFirst(_ sizes: [UInt64], _ devices: Int, _ order: SpreadOrder) -> [Piece] {
        let threshold = threshold(sizes, devices)
        let list = sorted(
            sizes.enumerated().map { Piece(entry: $0, offset: 0, size: $1, device: 0) }, order)
        var fill = [UInt64](repeating: 0, count: devices)
        var result: [Piece] = []
        for var file in list where file.size <= threshold {
            file.device = leastFilled(fill)
            fill[file.device] += file.size
            result.append(file)
        }
        var rests = list.filter { $0.size > threshold }
        while !rests.isEmpty {
            var turn = 0
            if order == .descending {
                for other in rests.indices where rests[other].size > rests[turn].size {
                    turn = other
                }
            }
            var segment = rests[turn]
            segment.device = leastFilled(fill)
            segment.size = min(segment.size, threshold - fill[segment.device])
            fill[segment.device] += segment.size
            result.append(segment)
            rests[turn].offset += segment.size
            rests[turn].size -= segment.size
            if rests[turn].size == 0 { rests.remove(at: turn) }
        }
        return result
    }

    /// Whole files, the largest first, each to the least filled device: what fpart does.
    static func longestFirst(_ sizes: [UInt64], _ devices: Int) -> UInt64 {
        var fill = [UInt64](repeating: 0, count: devices)
        for size in sizes.sorted(by: >) { fill[leastFilled(fill)] += size }
        return fill.max() ?? 0
    }

    // MARK: - the checker

    /// What is wrong with a plan: files not covered once a copy, copies on one device, capacities,
    /// sums. nil: nothing.
    static func fault(
        _ plan: SpreadPlan, _ sources: SourceList, _ devices: [SpreadDevice], copies: Int = 1
    ) -> String? {
        var bytes = devices.map(\.fill)
        var counts = devices.map(\.itemCount)
        var byEntry = [[SpreadItem]](repeating: [], count: sources.count)
        for item in plan.items {
            if !devices[item.device].isAvailable { return "an item on a device that is away" }
            if item.size == 0 && sources.size(item.entry) > 0 { return "an empty segment" }
            bytes[item.device] += item.size
            counts[item.device] += 1
            byEntry[item.entry].append(item)
        }
        for (index, device) in devices.enumerated() {
            if bytes[index] != plan.devices[index].bytes { return "sum of \(device.name)" }
            if counts[index] != plan.devices[index].items { return "count of \(device.name)" }
            if let capacity = device.capacity, bytes[index] > capacity, device.isAvailable {
                return "\(device.name) beyond its capacity"
            }
        }
        for entry in 0..<sources.count {
            if let fault = coverFault(byEntry[entry], sources.size(entry), copies) {
                return "f\(entry): \(fault)"
            }
        }
        return nil
    }

    private static func coverFault(
        _ items: [SpreadItem], _ size: UInt64, _ copies: Int
    ) -> String? {
        if size == 0 {
            if items.count != copies { return "\(items.count) items without bytes" }
            return Set(items.map(\.device)).count == copies ? nil : "copies on one device"
        }
        if items.count == 1, copies == 1 {
            return items[0].offset == 0 && items[0].size == size ? nil : "not covered"
        }
        // Between two marks everything is covered by the same pieces.
        let marks = Set(items.flatMap { [$0.offset, $0.offset + $0.size] } + [0, size]).sorted()
        if marks.last != size { return "beyond its end" }
        for (start, end) in zip(marks, marks.dropFirst()) {
            let over = items.filter { $0.offset <= start && end <= $0.offset + $0.size }
            if over.count != copies { return "\(start) to \(end) is on \(over.count) devices" }
            if Set(over.map(\.device)).count != copies { return "copies on one device" }
        }
        return nil
    }

    /// Replays a plan by the claims: each item to the then least filled device (S40, S57), the
    /// list sorted where it must be, segments within their limits.
    static func replayFault(_ plan: SpreadPlan, _ sources: SourceList, _ devices: Int) -> String? {
        var fill = [UInt64](repeating: 0, count: devices)
        var isLargePhase = false
        var previous: SpreadItem?
        for item in plan.items {
            if item.device != leastFilled(fill) { return "not the least filled device" }
            let isLarge = sources.size(item.entry) > plan.threshold
            if plan.mode == .smallFirst {
                if isLargePhase && !isLarge { return "a small file after a large one (S47)" }
                if isLarge && fill[item.device] + item.size > plan.threshold {
                    return "a segment beyond the space remaining (S48)"
                }
                if isLarge && !isLargePhase { previous = nil }
                isLargePhase = isLarge
            } else if item.size > plan.threshold {
                return "a segment above the threshold (S33)"
            }
            if let previous {
                let isUnsorted =
                    switch (plan.order, plan.mode == .smallFirst && isLarge) {
                    case (.descending, _): item.size > previous.size
                    case (.ascending, false): item.size < previous.size
                    case (.ascending, true):
                        sources.size(item.entry) < sources.size(previous.entry)
                    }
                if isUnsorted { return "the list is not sorted" }
            }
            previous = item
            fill[item.device] += item.size
        }
        return nil
    }

    /// How often the plan cuts.
    static func cuts(_ plan: SpreadPlan, _ sources: SourceList, copies: Int = 1) -> Int {
        plan.items.count - sources.count * copies
    }

    // MARK: - lists

    static let kinds = 7

    /// A list of one of seven kinds.
    static func sizes(_ seed: UInt64, most: UInt64 = 32) -> [UInt64] {
        var random = Seeded(seed)
        let count = Int(random.below(most + 1))
        let unit = UInt64(1) << random.below(34)
        let equal = random.below(unit)
        var result: [UInt64] = []
        for index in 0..<count {
            switch seed % UInt64(kinds) {
            case 0: result.append(equal)
            case 1: result.append(index == 0 ? unit * 100 : random.below(unit))
            case 2:  // Pareto with index 1: as many files above twice a size as half of them
                let part = Double(random.below(1 << 20) + 1) / Double(1 << 20)
                result.append(UInt64(min(Double(unit) / part, 0x1p46)))
            case 3: result.append(1 << random.below(40))
            case 4: result.append(random.below(3) == 0 ? random.below(unit) : 0)
            case 5: result.append(random.below(unit) / 4096 * 4096)
            default: result.append(random.below(unit))
            }
        }
        return result
    }
}
