// Small files first (S46 to S57): the unsplit files are sorted; those up to the threshold go to the
// then least filled devices, in order; then the large ones are split by the space that remains to
// the threshold on each device, again always on the then least filled one.
//
// Descending, the file with the most bytes left gives the next segment. The space of the least
// filled device never grows from step to step, nor does the largest rest: so the segments, the
// smaller of the two each, come in descending order by themselves. Ascending, the files come in
// ascending order, each with its segments as they are cut: segments that ascend, fit, and go to the
// least filled device would have to be as small as the smallest space (docs/spreading.md).

extension SpreadPlanner {
    /// Items in the order of assignment.
    static func smallFirst(
        _ sources: SourceList, _ table: inout DeviceTable, _ options: SpreadOptions,
        threshold: UInt64
    ) throws(SpreadError) -> [Packed] {
        let limit = min(threshold, options.splitOver ?? .max)
        var files = wholeFiles(sources)
        sort(&files, options.order)
        var result: [Packed] = []
        result.reserveCapacity(files.count + 2 * table.usable.count)
        var large: [Packed] = []
        table.order(by: .leastFilled)
        for var file in files {
            if file.size <= limit, let device = table.pull(room: file.size) {
                file.device = UInt16(device)
                table.put(file.size, on: device)
                result.append(file)
            } else {
                // Small, but without room anywhere: cut like a large one.
                file.rule = file.size <= limit ? .capacity : .remainingSpace
                large.append(file)
            }
        }
        files = []
        try segment(large, &table, &result, options, target: threshold)
        return result
    }

    /// Cuts the large files by the space that remains to the target.
    private static func segment(
        _ files: [Packed], _ table: inout DeviceTable, _ result: inout [Packed],
        _ options: SpreadOptions, target: UInt64
    ) throws(SpreadError) {
        var rests = Rests(files, options.order)
        var target = target
        while let position = rests.first {
            var piece = rests.files[position]
            guard let device = table.pull(room: 1) else {
                preconditionFailure("the room was checked before")
            }
            if table.bytes[device] >= target {
                // Every device with room stands at the target: raise it (§E4).
                table.giveBack(device)
                target = raised(table, for: rests.total)
                continue
            }
            let space = min(target - table.bytes[device], table.free(device))
            piece.size = min(piece.size, space, options.splitOver ?? .max)
            piece.device = UInt16(device)
            table.put(piece.size, on: device)
            result.append(piece)
            if result.count > itemsMax {
                throw .badOption(
                    option: "split-over", reason: "more than \(itemsMax) segments would result")
            }
            rests.take(piece.size)
        }
    }

    /// The lowest target at which the devices take `rest` more.
    private static func raised(_ table: DeviceTable, for rest: UInt64) -> UInt64 {
        let vessels = table.usable.map { device in
            Levels.Vessel(
                floor: table.bytes[device],
                brim: table.bytes[device] + min(table.free(device), rest), weight: 1)
        }
        guard let loads = Levels.pour(rest, into: vessels)?.loads else {
            preconditionFailure("the room was checked before")
        }
        // Devices that are full already do not ask for a target.
        let rising = zip(loads, vessels).filter { $0.0 > $0.1.floor }.map(\.0)
        return rising.max() ?? .max
    }

    /// What is left of the large files, and whose turn it is.
    private struct Rests {
        /// Offset and size of what is left of each, in the order of the list.
        private(set) var files: [Packed]
        private(set) var total: UInt64
        private let order: SpreadOrder
        /// Positions: a heap by what is left (descending), or a list from the end (ascending).
        private var waiting: [Int]

        init(_ files: [Packed], _ order: SpreadOrder) {
            self.files = files
            self.order = order
            total = files.reduce(0) { $0 + $1.size }
            // Sorted in the order of the list, which is a heap already.
            waiting = Array(files.indices)
            if order == .ascending { waiting.reverse() }
        }

        var first: Int? { order == .descending ? waiting.first : waiting.last }

        /// Takes bytes from the file whose turn it is.
        mutating func take(_ size: UInt64) {
            guard let position = first else { return }
            files[position].offset += size
            files[position].size -= size
            total -= size
            if order == .ascending {
                if files[position].size == 0 { waiting.removeLast() }
                return
            }
            if files[position].size == 0 {
                let last = waiting.removeLast()
                if waiting.isEmpty { return }
                waiting[0] = last
            }
            siftDown()
        }

        private func comes(_ a: Int, before b: Int) -> Bool {
            files[a].size != files[b].size ? files[a].size > files[b].size : a < b
        }

        private mutating func siftDown() {
            var hole = 0
            let moving = waiting[0]
            while true {
                var child = 2 * hole + 1
                if child >= waiting.count { break }
                if child + 1 < waiting.count, comes(waiting[child + 1], before: waiting[child]) {
                    child += 1
                }
                if !comes(waiting[child], before: moving) { break }
                waiting[hole] = waiting[child]
                hole = child
            }
            waiting[hole] = moving
        }
    }
}
