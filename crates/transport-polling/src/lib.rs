//! The HTTP long-polling transport of Roomcast: GETs that wait and POSTs that deliver
