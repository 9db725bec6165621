// Folders whose files stay on one device: each is placed as a whole before all else, the largest
// first, and nothing of it is cut. The rest is then balanced over what they leave.

extension SpreadPlanner {
    /// Places the groups' files; their items, and whether copies are on different sites.
    static func placeGroups(
        _ groups: FolderGroups, _ sources: SourceList, _ table: inout DeviceTable,
        _ options: SpreadOptions, _ itemCost: UInt64
    ) throws(SpreadError) -> ([Packed], sitesDiffer: Bool) {
        if groups.isEmpty { return ([], true) }
        var members = wholeFiles(sources) { groups.group(of: $0) != nil }
        var bytes = [UInt64](repeating: 0, count: groups.count)
        var load = bytes
        var itemCounts = [Int](repeating: 0, count: groups.count)
        for file in members {
            guard let group = groups.group(of: Int(file.entry)) else { continue }
            itemCounts[group] += 1
            bytes[group] += file.size
            load[group] += file.size + itemCost
        }
        let order = groups.roots.sorted { load[$0] != load[$1] ? load[$0] > load[$1] : $0 < $1 }
        var homes = [[Int]](repeating: [], count: groups.count)
        var sitesDiffer = true
        table.order(by: .leastShare)
        for group in order {
            homes[group] = pullDifferent(
                options.copies, room: bytes[group], &table, preferSites: true)
            if homes[group].isEmpty {
                throw .togetherDoesNotFit(
                    path: groups.folders[group].path, needed: bytes[group],
                    room: table.largestRoom)
            }
            let sites = Set(homes[group].map { table.site[$0] })
            if sites.count < min(options.copies, table.siteCount) { sitesDiffer = false }
            for device in homes[group] {
                table.add(
                    bytes[group], cost: load[group] - bytes[group], items: itemCounts[group],
                    to: device)
                table.giveBack(device)
            }
        }
        members = members.flatMap { file in
            homes[groups.group(of: Int(file.entry)) ?? 0].map { device in
                var item = file
                item.device = UInt16(device)
                item.rule = .together
                return item
            }
        }
        return (members, sitesDiffer)
    }

    /// Takes the next `count` different devices out of the table, on different sites as far as
    /// there are such with room. None when there are not as many devices.
    static func pullDifferent(
        _ count: Int, room: UInt64, _ table: inout DeviceTable, preferSites: Bool
    ) -> [Int] {
        var found: [Int] = []
        var avoided = DeviceTable.Avoided()
        while found.count < count {
            var next: Int?
            if preferSites, count > 1 { next = table.pull(room: room, avoiding: avoided) }
            guard let device = next ?? table.pull(room: room) else {
                for device in found { table.giveBack(device) }
                return []
            }
            found.append(device)
            avoided.sites.append(table.site[device])
        }
        return found
    }
}

/// Which entry belongs to which folder that is kept together. Folders that share a hard link are
/// one group.
struct FolderGroups {
    let folders: [SpreadOptions.Folder]
    /// The folder that stands for all that are joined with it.
    private var root: [Int]
    /// Index of the folder, by entry; empty without folders.
    private var folderOf: [UInt32] = []
    private static let none = UInt32.max

    var isEmpty: Bool { folders.isEmpty }
    var count: Int { folders.count }
    var roots: [Int] { folders.indices.filter { root[$0] == $0 } }

    init(_ sources: SourceList, _ options: SpreadOptions) throws(SpreadError) {
        folders = options.keepTogether
        root = Array(folders.indices)
        if folders.isEmpty { return }
        folderOf = [UInt32](repeating: Self.none, count: sources.count)
        var isMet = [Bool](repeating: false, count: folders.count)
        for entry in 0..<sources.count {
            for (index, folder) in folders.enumerated()
            where folder.source == sources.source(entry)
                && Self.contains(folder.path, sources.path(entry))
            {
                isMet[index] = true
                join(entry, index)
                if let leader = sources.leader(of: entry) { join(leader, index) }
            }
        }
        if let missed = isMet.firstIndex(of: false) {
            throw .togetherIsEmpty(path: folders[missed].path)
        }
        for index in root.indices { root[index] = find(index) }
    }

    func group(of entry: Int) -> Int? {
        guard !folders.isEmpty, folderOf[entry] != Self.none else { return nil }
        return find(Int(folderOf[entry]))
    }

    /// Puts an entry into a group; when it is in another one already, both become one.
    private mutating func join(_ entry: Int, _ folder: Int) {
        if folderOf[entry] == Self.none {
            folderOf[entry] = UInt32(folder)
            return
        }
        let (a, b) = (find(Int(folderOf[entry])), find(folder))
        root[max(a, b)] = min(a, b)
    }

    private func find(_ folder: Int) -> Int {
        var folder = folder
        while root[folder] != folder { folder = root[folder] }
        return folder
    }

    private static func contains(_ folder: [UInt8], _ path: ArraySlice<UInt8>) -> Bool {
        if folder.isEmpty { return true }
        guard path.starts(with: folder) else { return false }
        let rest = path.dropFirst(folder.count)
        return rest.isEmpty || rest.first == UInt8(ascii: "/")
    }
}
