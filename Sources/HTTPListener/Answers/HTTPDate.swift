internal import Domain

/// IMF-fixdate (RFC 9110, section 5.6.7), as in `Sun, 06 Nov 1994 08:49:37 GMT`.
public func httpDate(secondsSince1970 seconds: Int64) -> String {
    let days = seconds / 86_400
    let date = CivilDate(daysSince1970: days)
    let second = Int(seconds - days * 86_400)
    let names = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return "\(names[Int(days % 7)]), \(two(date.day)) \(months[date.month - 1]) \(date.year) "
        + "\(two(second / 3_600)):\(two(second / 60 % 60)):\(two(second % 60)) GMT"
}
