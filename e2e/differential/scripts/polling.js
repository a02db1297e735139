import { once } from "../script.js";

export const subject = "long-polling";

const poller = (name, play) => once(name, play, { carriers: ["polling"] });
const SEPARATOR = "\x1e";

export const scripts = [
  poller("a payload of one event", async (stage) => {
    const peer = await stage.join("a");
    await peer.push('42["echo",1]');
    await peer.fetch();
  }),
  poller("a payload of three events is answered in one payload, in order", async (stage) => {
    const peer = await stage.join("a");
    await peer.push(['42["echo",1]', '42["echo",2]', '42["echo",3]'].join(SEPARATOR));
    await peer.fetch();
  }),
  poller("text and bytes in one payload", async (stage) => {
    const peer = await stage.join("a");
    const hole = (num) => `{"_placeholder":true,"num":${num}}`;
    await peer.push([`451-["echo",${hole(0)}]`, "bAQID", '42["echo","after"]'].join(SEPARATOR));
    await peer.fetch();
  }),
  poller("multi-byte characters", async (stage) => {
    const peer = await stage.join("a");
    await peer.push('42["echo","€uro 👩‍🚀 \\u0000 \\u2028"]');
    await peer.fetch();
  }),
  poller("a pending GET is answered with the next packet", async (stage) => {
    const peer = await stage.join("a");
    const parked = peer.park();
    await stage.settled();
    await peer.push('42["echo","for the one that waits"]');
    peer.answer(await parked.response);
  }),
  poller("a second GET ends the session", async (stage) => {
    const peer = await stage.join("a");
    const parked = peer.park();
    await stage.settled();
    await peer.fetch();
    peer.answer(await parked.response);
    await peer.fetch();
    await stage.noted(3);
  }),
  poller("an aborted GET ends the session", async (stage) => {
    const peer = await stage.join("a");
    await peer.cut();
    await stage.noted(3);
    await peer.fetch();
  }),
  poller("a POST while another is pending ends the session", async (stage) => {
    const peer = await stage.join("a");
    const first = stage.beginPush(peer, { "content-length": "100" });
    first.write("4");
    await stage.settled();
    await peer.push('42["echo",1]');
    await stage.noted(3);
    await peer.fetch();
    first.abort();
  }),
  poller("an aborted POST ends the session", async (stage) => {
    const peer = await stage.join("a");
    const first = stage.beginPush(peer, { "content-length": "100" });
    first.write("4");
    await stage.settled();
    first.abort();
    await stage.noted(3);
    await peer.fetch();
  }),
  poller("a POST in chunks", async (stage) => {
    const peer = await stage.join("a");
    const push = stage.beginPush(peer, {});
    push.write('42["ec');
    await stage.settled();
    push.end('ho","in parts"]');
    peer.answer(await push.response);
    await peer.fetch();
  }),
  poller("the content type of bytes", async (stage) => {
    const peer = await stage.join("a");
    await peer.push('42["echo",1]', { headers: { "content-type": "application/octet-stream" } });
    await peer.fetch();
    await stage.noted(3);
  }),
  ...["text/plain;charset=UTF-8", "application/json", "text/plain; charset=iso-8859-1"].map((type) =>
    poller(`the content type ${type}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.push('42["echo",1]', { headers: { "content-type": type } });
      await peer.fetch();
    }),
  ),
  poller("unsupported methods", async (stage) => {
    for (const method of ["PUT", "DELETE", "OPTIONS"]) {
      const peer = await stage.join(method);
      peer.line(method);
      peer.answer(await peer.poll({ method }));
    }
  }),
  ...[
    ["an unknown packet type", "9x"],
    ["a letter", "abc"],
    ["nothing", ""],
    ["only a separator", SEPARATOR],
    ["a separator at the end", `42["echo",1]${SEPARATOR}`],
    ["a valid packet before an invalid one", `42["echo",1]${SEPARATOR}9${SEPARATOR}42["echo",2]`],
    ["base64 with invalid characters", `451-["echo",{"_placeholder":true,"num":0}]${SEPARATOR}b!!!!`],
    ["base64 without padding", `451-["echo",{"_placeholder":true,"num":0}]${SEPARATOR}bAQ`],
    ["empty base64", `451-["echo",{"_placeholder":true,"num":0}]${SEPARATOR}b`],
    ["a ping", "2"],
    ["an unexpected pong", "3"],
    ["an open packet", "0"],
    ["an upgrade packet", "5"],
    ["a noop", "6"],
  ].map(([what, body]) =>
    poller(`a payload with ${what}`, async (stage) => {
      const peer = await stage.join("a");
      await peer.push(body);
      await peer.push('42["echo","still here"]');
      peer.lineOf(await peer.take());
      if (peer.lines.at(-1).includes("closed")) await stage.noted(3);
    }),
  ),
  poller("a close packet, with a pending GET", async (stage) => {
    const peer = await stage.join("a");
    const parked = peer.park();
    await stage.settled();
    await peer.push("1");
    peer.answer(await parked.response);
    await stage.noted(3);
    await peer.fetch();
  }),
  poller("a close packet, without a pending GET", async (stage) => {
    const peer = await stage.join("a");
    await peer.push("1");
    await stage.noted(3);
    await peer.fetch();
  }),
  poller("packets after a close packet", async (stage) => {
    const peer = await stage.join("a");
    const parked = peer.park();
    await stage.settled();
    await peer.push(`1${SEPARATOR}42["echo",1]`);
    peer.answer(await parked.response);
    await stage.noted(3);
  }),
  poller("queued packets are sent with the server's close", async (stage) => {
    const peer = await stage.join("a");
    await peer.push(`42["echo",1]${SEPARATOR}42["do",{"do":"disconnect","close":true}]`);
    await stage.noted(3);
    await peer.closed();
  }),
  ...[10_000, 10_001].map((chunks) =>
    poller(`a body of ${chunks.toLocaleString("en")} chunks`, async (stage) => {
      const peer = await stage.join("a");
      const { pathname, search } = new URL(peer.address());
      const packet = `42["echo","${"x".repeat(chunks - '42["echo",""]'.length)}"]`;
      const body = Array.from(packet, (byte) => `1\r\n${byte}\r\n`).join("");
      await stage.bytes(
        "b",
        `POST ${pathname}${search} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n` +
          `Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n${body}0\r\n\r\n`,
        (answer) => answer.slice(0, answer.indexOf("\r\n")),
      );
      peer.line((await peer.poll().catch(() => ({ status: "no answer" }))).status);
    }),
  ),
];
