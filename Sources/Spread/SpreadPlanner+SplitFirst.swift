// Split first, then place (S33 to S42): files above the threshold become segments of at most the
// threshold; files and segments are sorted together; each goes to the then least filled device.

extension SpreadPlanner {
    /// Items in the order of the list. Where the least filled device has no room for an item, it
    /// goes to the least filled one that has; where none has, it is cut to what is free.
    static func splitFirst(
        _ sources: SourceList, _ table: inout DeviceTable, _ options: SpreadOptions,
        threshold: UInt64
    ) throws(SpreadError) -> [Packed] {
        let limit = max(1, min(threshold, options.splitOver ?? .max))
        var list = try split(wholeFiles(sources), above: limit, rule: .leastFilled)
        sort(&list, options.order)
        table.order(by: .leastFilled)
        var cut: [(position: Int, pieces: [Packed])] = []
        for position in list.indices {
            if let device = table.pull(room: list[position].size) {
                list[position].device = UInt16(device)
                table.put(list[position].size, on: device)
            } else {
                cut.append((position, cutToRoom(list[position], &table)))
            }
        }
        return inserting(cut, into: list)
    }

    /// Cuts an item to what is free on the least filled devices; all of it is known to fit.
    static func cutToRoom(_ item: Packed, _ table: inout DeviceTable) -> [Packed] {
        var pieces: [Packed] = []
        var piece = item
        piece.rule = .capacity
        var rest = item.size
        while rest > 0 {
            guard let device = table.pull(room: 1) else {
                preconditionFailure("the room was checked before")
            }
            piece.device = UInt16(device)
            piece.size = min(rest, table.free(device))
            pieces.append(piece)
            table.put(piece.size, on: device)
            piece.offset += piece.size
            rest -= piece.size
        }
        return pieces
    }

    /// Pieces in the place of the items that were cut.
    static func inserting(
        _ cut: [(position: Int, pieces: [Packed])], into list: [Packed]
    ) -> [Packed] {
        if cut.isEmpty { return list }
        var result: [Packed] = []
        result.reserveCapacity(list.count + cut.reduce(0) { $0 + $1.pieces.count })
        var next = 0
        for (position, pieces) in cut {
            result += list[next..<position]
            result += pieces
            next = position + 1
        }
        result += list[next...]
        return result
    }
}
