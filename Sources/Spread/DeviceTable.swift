// The devices in the planner's hands: what each holds by now, and which one comes next by fill, by
// share, by space or by items. A binary heap of device numbers; equal devices come in the order of
// the command line. A value.

struct DeviceTable {
    /// What "next" means.
    enum Rank {
        /// The fewest bytes.
        case leastFilled
        /// The least load for its weight.
        case leastShare
        /// The most load left up to the target.
        case mostSpace
        /// The fewest items.
        case fewestItems
    }

    /// What an item may not go to.
    struct Avoided {
        var devices: [Int] = []
        var sites: [Int] = []
    }

    let devices: [SpreadDevice]
    /// Numbers of the devices that are there, in their order.
    let usable: [Int]
    /// Each device's site, numbered in order of appearance among the usable ones.
    let site: [Int]
    let siteCount: Int
    private(set) var bytes: [UInt64]
    private(set) var items: [Int]
    /// Bytes and the cost of items.
    private(set) var load: [UInt64]
    /// What each should carry.
    private var target: [UInt64]
    /// The same before it was made exact: whole items may end there.
    private var limit: [UInt64]
    private var heap: [Int] = []
    private var rank = Rank.leastFilled

    init(_ devices: [SpreadDevice], itemCost: UInt64 = 0) {
        self.devices = devices
        usable = devices.indices.filter { devices[$0].isAvailable }
        bytes = devices.map(\.fill)
        items = devices.map(\.itemCount)
        load = devices.map { $0.fill + UInt64($0.itemCount) * itemCost }
        target = devices.map { _ in 0 }
        limit = target
        var numbers: [String?: Int] = [:]
        var site = devices.map { _ in 0 }
        for device in usable {
            let next = numbers.count
            site[device] = numbers[devices[device].site, default: next]
            numbers[devices[device].site] = site[device]
        }
        self.site = site
        siteCount = numbers.count
    }

    /// Bytes that the device can still take.
    func free(_ device: Int) -> UInt64 {
        let capacity = devices[device].capacity ?? .max
        let room = capacity > bytes[device] ? capacity - bytes[device] : 0
        guard let free = devices[device].free else { return room }
        let added = bytes[device] - devices[device].fill
        return min(room, free > added ? free - added : 0)
    }

    /// Sets the targets of the usable devices, in their order.
    mutating func setTargets(_ poured: Levels.Poured) {
        for (index, device) in usable.enumerated() {
            target[device] = poured.loads[index]
            limit[device] = poured.limits[index]
        }
    }

    /// Whether the device stands within less than a block of its target after `more` load.
    func isWithinTarget(_ device: Int, adding more: UInt64 = 0, block: UInt64) -> Bool {
        load[device] + more <= limit[device] + (block - 1)
    }

    /// Load that is missing to the device's target.
    func space(_ device: Int) -> UInt64 {
        target[device] > load[device] ? target[device] - load[device] : 0
    }

    /// Bytes that all can still take, each at most `most`; never more than 64 bits.
    func room(most: UInt64 = .max) -> UInt64 {
        var sum: UInt64 = 0
        for device in usable {
            let (next, overflow) = sum.addingReportingOverflow(min(free(device), most))
            if overflow { return .max }
            sum = next
        }
        return sum
    }

    /// The largest room on one device.
    var largestRoom: UInt64 { usable.map { free($0) }.max() ?? 0 }

    // MARK: the next device

    /// From now on, what comes next is decided by `rank`, among all usable devices.
    mutating func order(by rank: Rank) {
        self.rank = rank
        heap.removeAll(keepingCapacity: true)
        for device in usable { push(device) }
    }

    /// Takes out the next device that has room for `bytes` and may take the item. It comes back by
    /// `put` or `giveBack`.
    mutating func pull(room bytes: UInt64, avoiding: Avoided? = nil) -> Int? {
        var aside: [Int] = []
        var found: Int?
        while found == nil, let device = pop() {
            if free(device) >= bytes && isAllowed(device, avoiding) {
                found = device
            } else {
                aside.append(device)
            }
        }
        for device in aside { push(device) }
        return found
    }

    private func isAllowed(_ device: Int, _ avoided: Avoided?) -> Bool {
        guard let avoided else { return true }
        return !avoided.devices.contains(device) && !avoided.sites.contains(site[device])
    }

    /// Adds an item to a device that was pulled, and brings it back.
    mutating func put(_ size: UInt64, cost: UInt64 = 0, on device: Int) {
        add(size, cost: cost, to: device)
        push(device)
    }

    /// Adds to a device that is pulled, or when no more is pulled in this order.
    mutating func add(_ size: UInt64, cost: UInt64 = 0, items count: Int = 1, to device: Int) {
        bytes[device] += size
        load[device] += size + cost
        items[device] += count
    }

    /// Brings a pulled device back as it was.
    mutating func giveBack(_ device: Int) { push(device) }

    private func comes(_ a: Int, before b: Int) -> Bool {
        switch rank {
        case .leastFilled:
            return bytes[a] != bytes[b] ? bytes[a] < bytes[b] : a < b
        case .leastShare:
            let left = load[a].multipliedFullWidth(by: devices[b].weight)
            let right = load[b].multipliedFullWidth(by: devices[a].weight)
            if left.high != right.high { return left.high < right.high }
            return left.low != right.low ? left.low < right.low : a < b
        case .mostSpace:
            let (left, right) = (space(a), space(b))
            return left != right ? left > right : a < b
        case .fewestItems:
            return items[a] != items[b] ? items[a] < items[b] : a < b
        }
    }

    private mutating func push(_ device: Int) {
        var hole = heap.count
        heap.append(device)
        while hole > 0, comes(device, before: heap[(hole - 1) / 2]) {
            heap[hole] = heap[(hole - 1) / 2]
            hole = (hole - 1) / 2
        }
        heap[hole] = device
    }

    private mutating func pop() -> Int? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if heap.isEmpty { return first }
        var hole = 0
        while true {
            var child = 2 * hole + 1
            if child >= heap.count { break }
            if child + 1 < heap.count, comes(heap[child + 1], before: heap[child]) { child += 1 }
            if !comes(heap[child], before: last) { break }
            heap[hole] = heap[child]
            hole = child
        }
        heap[hole] = last
        return first
    }

    /// What the plan says of the devices.
    var planned: [PlannedDevice] {
        devices.indices.map { device in
            PlannedDevice(
                name: devices[device].name, bytes: bytes[device], items: items[device],
                capacity: devices[device].capacity, isAvailable: devices[device].isAvailable)
        }
    }
}
