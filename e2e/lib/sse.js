// Socket.IO over server-sent events and POST: on a browser's EventSource, or on the one below.

/**
 * The client code of a page. `EventSource` is the browser's, or [NodeEventSource]; `report` receives each event as an
 * array, with binary arguments as arrays of numbers. Self-contained, so that it can be sent to a page.
 */
export function socketOverEvents(EventSource, origin, report) {
  const stream = `${origin}/socket.io/?EIO=4&transport=sse`;
  const source = new EventSource(stream);
  let address;
  let posts = Promise.resolve();
  let incomplete;

  const post = (body) => {
    const binary = typeof body !== "string";
    const headers = { "Content-Type": binary ? "application/octet-stream" : "text/plain" };
    posts = posts.then(async () => {
      const { status } = await fetch(address, { method: "POST", body, headers });
      if (status !== 204) report(["refused", status]);
    });
    return posts;
  };
  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const receive = (packet) => {
    if (typeof packet !== "string") {
      const { event, parts, count } = incomplete;
      parts.push([...packet]);
      if (parts.length < count) return;
      incomplete = undefined;
      return report(event.map((value) => (value?._placeholder ? parts[value.num] : value)));
    }
    const [, type, count, ack, body] = /^(0|2|40|42|43|45)(?:(\d+)-)?(\d*)(.*)$/s.exec(packet) ?? [];
    if (type === "0") {
      const opened = JSON.parse(packet.slice(1));
      address = `${stream}&sid=${opened.sid}`;
      report(["opened", opened]);
      post("40");
    } else if (type === "2") post("3");
    else if (type === "40") report(["connected", JSON.parse(body).sid]);
    else if (type === "42") report(JSON.parse(body));
    else if (type === "43") report(["answer", Number(ack), ...JSON.parse(body)]);
    else if (type === "45") incomplete = { event: JSON.parse(body), parts: [], count: Number(count) };
    else report(["unknown", packet]);
  };
  source.onmessage = ({ data }) => {
    if (data.startsWith("b")) receive(bytesOf(data.slice(1)));
    else if (data.startsWith("t")) receive(new TextDecoder().decode(bytesOf(data.slice(1))));
    else receive(data);
  };
  source.onerror = () => {
    report(["error"]);
    source.close();
  };
  return {
    address: () => address,
    ask: (id, ...event) => post(`42${id}${JSON.stringify(event)}`),
    emit: (...event) => post(`42${JSON.stringify(event)}`),
    /** The last argument is binary, as an array of numbers */
    emitBinary: (...event) => {
      const bytes = event.pop();
      post(`451-${JSON.stringify([...event, { _placeholder: true, num: 0 }])}`);
      return post(Uint8Array.from(bytes));
    },
    close: () => source.close(),
  };
}

/** Minimal EventSource for Node, which has none */
export class NodeEventSource {
  #aborts = new AbortController();

  constructor(url) {
    this.#read(url).catch(() => this.#aborts.signal.aborted || this.onerror?.());
  }

  async #read(url) {
    const { signal } = this.#aborts;
    const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal });
    const type = response.headers.get("content-type");
    if (response.status !== 200 || type !== "text/event-stream") throw new Error(`${response.status} ${type}`);
    const decoder = new TextDecoder();
    let came = "";
    for await (const part of response.body) {
      came += decoder.decode(part, { stream: true });
      const events = came.split("\n\n");
      came = events.pop();
      for (const event of events) {
        const lines = event.split(/\r\n|\r|\n/).filter((line) => line.startsWith("data:"));
        const data = lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
        if (data !== "") this.onmessage?.({ data });
      }
    }
    throw new Error("end of stream");
  }

  close() {
    this.#aborts.abort();
  }
}
