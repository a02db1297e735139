//! Rooms in one process, on DashMap: to all, to all but the sender, to a room
