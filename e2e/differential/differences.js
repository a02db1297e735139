// Intentional differences from Node, with reasons. The test fails on a difference that is not listed, and on a
// listed one that no longer occurs. `node` and `roomcast` are the lines that only this server's record has.
//
// If the lines depend on the carrier, `carriers` lists the carriers they apply to.
export const DIFFERENCES = [
  {
    name: "a WebSocket with an unsupported protocol version",
    why:
      "Node accepts the WebSocket and then writes an HTTP response into it. A rejection before the upgrade has the " +
      "same meaning for clients and does not confuse proxies.",
    at: [
      {
        script: "WebSocket without EIO",
        node: ["a:   101", "a: (closed: 1006)"],
        roomcast: ["a:   400 content-type: text/html", "a:   Unsupported protocol version"],
      },
      {
        script: "WebSocket with EIO 3",
        node: ["a:   101", "a: (closed: 1006)"],
        roomcast: ["a:   400 content-type: text/html", "a:   Unsupported protocol version"],
      },
    ],
  },
  {
    name: "a lone surrogate",
    why:
      "JSON may contain a lone surrogate, which UTF-8 cannot represent. It is read as U+FFFD, as in other UTF-8 " +
      "decoders, so that handlers and clients get valid text.",
    at: [
      {
        script: "with a lone surrogate",
        node: ['a: < 42["echo","\\ud800"]'],
        roomcast: ['a: < 42["echo","\ufffd"]'],
      },
    ],
  },
  {
    name: "a body in many pieces",
    why:
      "Node keeps each chunk of a body as an object until the last arrives, so it rejects more than 10,000. Here " +
      "they are copied into one buffer, whose size is limited anyway.",
    at: [
      {
        script: "a body of 10,001 chunks",
        node: ["a: 400", "b: HTTP/1.1 413 Payload Too Large"],
        roomcast: ["a: 200", "b: HTTP/1.1 200 OK"],
      },
    ],
  },
  {
    name: "a volatile event right after another",
    why:
      "Node drops it, since its transport counts as busy until the previous write has completed. Here it is sent if " +
      "it fits, since the client can receive it.",
    at: [
      {
        script: "volatile, right after another event",
        node: [],
        roomcast: ['a:   42["second",1]'],
      },
    ],
  },
  {
    name: "a WebSocket with transport=polling",
    why:
      "Node completes the handshake and closes the WebSocket at once. Such a request cannot carry a session, so its " +
      "handshake is rejected with a status that shows the reason.",
    at: [
      {
        script: "WebSocket with transport=polling",
        node: ["a:   101", "a: (closed: 1005)"],
        roomcast: ["a:   400 content-type: text/html", "a:   Bad request"],
      },
    ],
  },
  {
    name: "base64 with invalid characters",
    why:
      "Node's decoder skips them and passes the remaining bytes to the application. Corrupted bytes are worse than " +
      "an error, so the packet is rejected as a parse error.",
    at: [
      {
        script: "a payload with base64 with invalid characters",
        node: [
          "a:   200 cache-control: no-store; content-type: text/html",
          "a:   ok",
          "a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]",
          "a: left: b",
          "a: left: 42[\"echo\",\"still here\"]",
        ],
        roomcast: [
          "a:   400 content-type: application/json",
          "a:   {\"code\":1,\"message\":\"Session ID unknown\"}",
          "a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})",
          "server: a /: connection",
          "server: a /: disconnecting: parse error; rooms own",
          "server: a /: disconnect: parse error; rooms ",
        ],
      },
    ],
  },
  {
    name: "base64 with invalid characters, over WebSocket",
    why: "As on long-polling, for clients that send binary as text on every transport.",
    at: [
      {
        script: "base64 with invalid characters",
        node: ['a: < 451-["echo",{"_placeholder":true,"num":0}]', "a: < bytes "],
        roomcast: ["a: (closed: 1005)"],
      },
    ],
  },
  {
    name: "the reason in the answer to a close frame",
    why:
      "RFC 6455 section 5.5.1 requires the status code to be echoed, but not the reason. The client's text need not " +
      "be sent back.",
    at: [
      {
        script: "a close frame with a code and a reason",
        node: ["a: (closed: 4000 bye)"],
        roomcast: ["a: (closed: 4000)"],
      },
    ],
  },
  {
    name: "an upgrade packet without a probe",
    why:
      "Node switches the transport although the WebSocket has not been probed, and leaves the pending GET without a " +
      "response. Here the order of the protocol is enforced: the WebSocket is closed and the session stays on " +
      "polling.",
    at: [
      {
        script: "a probe of 5",
        node: [
          "a:   400 content-type: application/json",
          "a:   {\"code\":3,\"message\":\"Bad request\"}",
          "a: (closed: 400 {\"code\":3,\"message\":\"Bad request\"})",
          "b: (nothing comes)",
        ],
        roomcast: ["a: < 42[\"echo\",\"still here\"]", "b: (closed: 1005)"],
      },
    ],
  },
  {
    name: "the close reason of a protocol violation, on long-polling",
    why:
      "After a protocol violation, Node's reason depends on the carrier: \"forced close\" on WebSocket and \"forced " +
      "server close\" on long-polling, whose transport closes later. Here the reason is the same on every carrier: " +
      "the WebSocket's.",
    at: [
      {
        script: "CONNECT to a namespace that was joined",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "42/other,[\"echo\"] of a client that has only joined the main namespace",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "43/other,1[] of a client that has only joined the main namespace",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "41/other, of a client that has only joined the main namespace",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "42/unknown,[\"echo\"] of a client that has only joined the main namespace",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "44{\"message\":\"no\"} of a client that has only joined the main namespace",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "an event without a payload, in a namespace",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "a CONNECT_ERROR without a payload",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "a CONNECT_ERROR with a string",
        carriers: ["polling"],
        node: [
          "server: a /: disconnecting: forced server close; rooms own",
          "server: a /: disconnect: forced server close; rooms ",
        ],
        roomcast: [
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
    ],
  },
  {
    name: "packets before the namespace is joined",
    why:
      "Node creates its socket after it reads the next packet, so an event right after CONNECT closes the " +
      "connection, and two CONNECTs create two sockets, one of them unreachable. Here events wait for the response, " +
      "and the second CONNECT is an error.",
    at: [
      {
        script: "an event while the middleware is pending",
        carriers: ["polling"],
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: [
          "a: < 40/guarded,{\"sid\":\"<socket id in /guarded of a>\"}",
          "a: < 42/guarded,[\"echo\",\"early\"]",
        ],
      },
      {
        script: "an event while the middleware is pending",
        carriers: ["websocket", "upgraded"],
        node: ["a: (closed: 1005)"],
        roomcast: [
          "a: < 40/guarded,{\"sid\":\"<socket id in /guarded of a>\"}",
          "a: < 42/guarded,[\"echo\",\"early\"]",
        ],
      },
      {
        script: "an event in the payload of its CONNECT",
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: ["a: < 40{\"sid\":\"<socket id of a>\"}", "a: < 42[\"echo\",\"early\"]"],
      },
      {
        script: "two CONNECTs to one namespace in one payload",
        node: ["a: < 40{\"sid\":\"<socket id of a 2>\"}"],
        roomcast: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
      },
    ],
  },
  {
    name: "middlewares of a disconnected client",
    why:
      "Node runs the remaining middlewares although the client has disconnected. Here they do not run, and the " +
      "pending one is cancelled.",
    at: [
      {
        script: "a client that disconnects while a middleware is pending",
        node: ["server: a /guarded: second middleware"],
        roomcast: [],
      },
    ],
  },
  {
    name: "an event whose name is a number",
    why:
      "An event name is text in this API, as in Node's types. A number is accepted and selects the handler of that " +
      "text; it is emitted as text.",
    at: [
      {
        script: "with a number as name",
        node: ["a: < 42[1,2,3]"],
        roomcast: ["a: < 42[\"1\",2,3]"],
      },
      {
        script: "a number as name",
        node: ["a: < 451-[1,{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 451-[\"1\",{\"_placeholder\":true,\"num\":0}]"],
      },
    ],
  },
  {
    name: "one attachment in several places",
    why:
      "Node copies the bytes for each placeholder, so a small packet can become gigabytes in the application. Here " +
      "an event cannot reference more bytes than it came with.",
    at: [
      {
        script: "the same twice",
        carriers: ["polling"],
        node: [
          "a: < 452-[\"echo\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
          "a: < bytes 07",
          "a: < bytes 07",
        ],
        roomcast: ["a:   400 ", "a:   ", "a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
      },
      {
        script: "the same twice",
        carriers: ["websocket", "upgraded"],
        node: [
          "a: < 452-[\"echo\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
          "a: < bytes 07",
          "a: < bytes 07",
        ],
        roomcast: ["a: (closed: 1005)"],
      },
    ],
  },
  {
    name: "arguments forwarded without parsing",
    why:
      "Arguments that a handler forwards unparsed stay as the client wrote them: an unreferenced attachment is " +
      "kept, and a placeholder keeps the order of its keys and additional keys. Clients read the same values from " +
      "both.",
    at: [
      {
        script: "an unreferenced one",
        node: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 452-[\"echo\",{\"_placeholder\":true,\"num\":0}]", "a: < bytes 02"],
      },
      {
        script: "only an unreferenced one",
        node: ["a: < 42[\"echo\",\"x\"]"],
        roomcast: ["a: < 451-[\"echo\",\"x\"]", "a: < bytes 01"],
      },
      {
        script: "a placeholder with additional keys",
        node: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0,\"x\":1}]"],
      },
      {
        script: "keys in a different order",
        node: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 451-[\"echo\",{\"num\":0,\"_placeholder\":true}]"],
      },
    ],
  },
  {
    name: "base64 on WebSocket on request",
    why:
      "Node sends binary as text on every transport if the query has b64. The parameter is for browsers whose HTTP " +
      "requests cannot carry binary, and long-polling is text only in this revision; a WebSocket carries binary for " +
      "every client, so that a room can share one frame.",
    at: [
      {
        script: "for a client that asks for base64",
        carriers: ["websocket", "upgraded"],
        node: ["a: < bAQID"],
        roomcast: ["a: < bytes 010203"],
      },
    ],
  },
  {
    name: "an ack id beyond the precision of a double",
    why:
      "JavaScript rounds it, and the client gets an answer with an id that it did not use. No client counts that " +
      "far; an id that cannot be echoed is invalid.",
    at: [
      {
        script: "to the client, with an id beyond the precision of a double",
        node: ["a: < 4318446744073709552000[1]"],
        roomcast: ["a: (closed: 1005)"],
      },
    ],
  },
  {
    name: "a broadcast with acks to a client that disconnects",
    why:
      "Node waits for the answer of a disconnected client until the timeout. Here a disconnected client is not " +
      "waited for, but reported with the answers.",
    at: [
      {
        script: "of a broadcast to a client that disconnects",
        node: ["a: < 43900[{\"answers\":[],\"error\":\"operation has timed out\"}]"],
        roomcast: ["a: < 43900[{\"answers\":[],\"error\":null}]"],
      },
    ],
  },
  {
    name: "the room of a socket's own id is permanent",
    why:
      "On Node it is an ordinary room, which a socket can leave, so that events for its id no longer reach it. Here " +
      "the id addresses the socket while it is connected, without a room.",
    at: [
      {
        script: "leaving the own room",
        node: ["b: < 437001[\"\"]"],
        roomcast: ["b: < 437001[\"own\"]", "b: < 42[\"for b\",1]"],
      },
    ],
  },
  {
    name: "a namespace left and joined again at once",
    why:
      "Node closes the socket after it reads the next packet, so a CONNECT right after DISCONNECT finds the " +
      "namespace still joined and closes the connection. Here packets take effect in order.",
    at: [
      {
        script: "the client leaves and joins in one payload",
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: ["a: < 40{\"sid\":\"<socket id of a 2>\"}"],
      },
    ],
  },
  {
    name: "events in flight when the server disconnects their socket",
    why:
      "The client cannot know yet that the server disconnected it from a namespace. Node closes its connection for " +
      "such an event, with its other namespaces; here the event is dropped and the connection stays open.",
    at: [
      {
        script: "an event after the disconnect of its namespace",
        carriers: ["polling"],
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: ["a: (nothing comes)"],
      },
      {
        script: "an event after the disconnect of its namespace",
        carriers: ["websocket", "upgraded"],
        node: ["a: (closed: 1005)"],
        roomcast: ["a: (nothing comes)"],
      },
    ],
  },
  {
    name: "an ack after the socket has left",
    why:
      "Node sends it although the client has left the namespace and can only drop it. Here the handler gets an " +
      "error.",
    at: [
      {
        script: "acks of a handler that ends after its socket",
        node: ["a: < 431[1000]"],
        roomcast: [],
      },
    ],
  },
  {
    name: "an event right before a DISCONNECT",
    why:
      "Node handles an event after it reads the next packet, and drops it if the client has left by then, so events " +
      "right before a DISCONNECT are lost if both arrive at once. Here earlier events are handled.",
    at: [
      {
        script: "an event followed by a DISCONNECT in one payload",
        node: [],
        roomcast: ["a: < 431[1]"],
      },
    ],
  },
  {
    name: "packets without a required payload",
    why:
      "Node validates a payload only if there is one: an event without a name reaches no handler, and an ack " +
      "without an id or arguments is ignored. Such a packet is as invalid as one with a wrong payload, for which " +
      "both servers close.",
    at: [
      {
        script: "an event without a payload",
        carriers: ["polling"],
        node: ["a: < 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "an event without a payload",
        carriers: ["websocket", "upgraded"],
        node: ["a: < 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 1005)",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "an ack without a payload",
        carriers: ["polling"],
        node: ["a: < 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "an ack without a payload",
        carriers: ["websocket", "upgraded"],
        node: ["a: < 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 1005)",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "an ack without a number",
        carriers: ["polling"],
        node: ["a: < 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "an ack without a number",
        carriers: ["websocket", "upgraded"],
        node: ["a: < 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 1005)",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
    ],
  },
  {
    name: "a space before the payload",
    why:
      "JavaScript converts a space to 0, so Node reads an ack id there and sends an unexpected answer. JSON may " +
      "begin with a space.",
    at: [
      {
        script: "a space before the list",
        node: ["a: < 430[]"],
        roomcast: ["a: < 42[\"echo\"]"],
      },
    ],
  },
  {
    name: "a placeholder with a fractional number",
    why:
      "Node passes undefined to the application. Here it is rejected like any other number without an attachment.",
    at: [
      {
        script: "a fractional placeholder",
        carriers: ["polling"],
        node: ["a: < 42[\"echo\",null]", "a: left: 42[\"echo\",\"still here\"]"],
        roomcast: [
          "a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
      {
        script: "a fractional placeholder",
        carriers: ["websocket", "upgraded"],
        node: ["a: < 42[\"echo\",null]"],
        roomcast: [
          "a: (closed: 1005)",
          "server: a /: connection",
          "server: a /: disconnecting: forced close; rooms own",
          "server: a /: disconnect: forced close; rooms ",
        ],
      },
    ],
  },
  {
    name: "a WebSocket upgrade where upgrades are disabled",
    why:
      "Node offers no upgrade but answers the probe of a client that tries one, and never completes it. Rejecting " +
      "the handshake informs the client at once, and leaves no open connection.",
    at: [
      {
        script: "no upgrades: a WebSocket that tries an upgrade",
        node: ["b: < 3probe", "b: (nothing comes)"],
        roomcast: ["b: (closed: 1005)"],
      },
    ],
  },
  {
    name: "no-transform for an event that must not be compressed",
    why:
      "The application's request not to transform the response applies to proxies too, which RFC 9111 section " +
      "5.2.2.6 expresses by this directive.",
    at: [
      {
        script: "an event with compression disabled",
        node: ["a:   200 cache-control: no-store; content-type: text/plain; charset=UTF-8"],
        roomcast: ["a:   200 cache-control: no-store, no-transform; content-type: text/plain; charset=UTF-8"],
      },
    ],
  },
  {
    name: "browser clients not served",
    why:
      "Node treats the request as an Engine.IO request without a transport. Here the response explains where to get " +
      "the file.",
    at: [
      {
        script: "when they are not served",
        node: ["a:   400 content-type: application/json", 'a:   {"code":0,"message":"Transport unknown"}'],
        roomcast: [
          "a:   404 content-type: text/plain; charset=utf-8",
          "a:   The Socket.IO client is not served here. Take it from npm (`npm install socket.io-client`) or a CDN, " +
            "or have it served: install npm's `socket.io`, and name its folder `client-dist` by " +
            "`IoBuilder::serve_client`, or by the flag `--serve-client` of the command.",
        ],
      },
    ],
  },
  {
    name: "Vary on the browser clients",
    why:
      "The files are compressed for browsers that accept it, so caches must keep the variants apart; without the " +
      "header they may send compressed bytes to a browser that does not accept them. A 304 has the headers of the " +
      "200, as RFC 9110 section 15.4.5 requires.",
    at: [
      ...["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"].map((name) =>
        varied(`the file ${name}`),
      ),
      varied("the file socket.io.min.js.map", { type: "json" }),
      varied("the file socket.io.msgpack.min.js.map", { type: "json" }),
      varied("for a browser that accepts gzip", { coding: "content-encoding: gzip; " }),
      varied("for a browser that accepts deflate", { coding: "content-encoding: deflate; " }),
      varied("for a browser that accepts gzip, deflate, br", { coding: "content-encoding: gzip; " }),
      varied("for a browser that accepts gzip;q=0"),
      varied("with a query"),
      varied("with HEAD"),
      {
        script: "that the browser has cached",
        node: [...varied().node, "a:   304 ", "a:   304 ", ...varied().node],
        roomcast: [
          ...varied().roomcast,
          "a:   304 cache-control: public, max-age=0; etag: <etag>; vary: Accept-Encoding",
          "a:   304 cache-control: public, max-age=0; etag: <etag>; vary: Accept-Encoding",
          ...varied().roomcast,
        ],
      },
      {
        script: "for a page of another origin",
        node: [
          "a:   200 access-control-allow-credentials: true; access-control-allow-origin: https://page.example; " +
            "cache-control: public, max-age=0; content-type: application/javascript; charset=utf-8; etag: <etag>; " +
            "vary: Origin",
        ],
        roomcast: [
          "a:   200 access-control-allow-credentials: true; access-control-allow-origin: https://page.example; " +
            "cache-control: public, max-age=0; content-type: application/javascript; charset=utf-8; etag: <etag>; " +
            "vary: Accept-Encoding, Origin",
        ],
      },
    ],
  },
  {
    name: "a missing transport in the report to the application",
    why: "JSON omits JavaScript's undefined. Here the key is present and null.",
    at: [
      {
        script: "a request is rejected for no transport",
        node: ["server: refused: 0 Transport unknown {}"],
        roomcast: ["server: refused: 0 Transport unknown {\"transport\":null}"],
      },
    ],
  },
  {
    name: "the application's own rejection in the report",
    why:
      "Node's event always has the message Forbidden, with the application's text only in the context. Here the " +
      "message is the one sent to the client, in the event and in the context.",
    at: [
      {
        script: "a request is rejected for a rejecting application",
        node: ["server: refused: 4 Forbidden {\"message\":\"not today\"}"],
        roomcast: ["server: refused: 4 not today {\"message\":\"not today\"}"],
      },
      {
        script: "a WebSocket is rejected for a rejecting application",
        node: ["server: refused: 4 Forbidden {\"message\":\"not today\"}"],
        roomcast: ["server: refused: 4 not today {\"message\":\"not today\"}"],
      },
      {
        script: "a request is rejected for an application without a message",
        node: ["server: refused: 4 Forbidden {\"message\":\"\"}"],
        roomcast: ["server: refused: 4 Forbidden {\"message\":\"Forbidden\"}"],
      },
    ],
  },
  {
    name: "the revision in the report of an unsupported one",
    why:
      "Node reports every revision but 4 as 3, even if it is missing. Here the application gets the client's value.",
    at: [
      {
        script: "a request is rejected for an unsupported revision",
        node: ["server: refused: 5 Unsupported protocol version {\"protocol\":3}"],
        roomcast: ["server: refused: 5 Unsupported protocol version {\"protocol\":\"3\"}"],
      },
      {
        script: "a request is rejected for no revision",
        node: ["server: refused: 5 Unsupported protocol version {\"protocol\":3}"],
        roomcast: ["server: refused: 5 Unsupported protocol version {\"protocol\":null}"],
      },
    ],
  },
  {
    name: "the close frames of a server shutdown",
    why:
      "Node sends no code. RFC 6455 section 7.4.1 defines 1001 for a server that goes down; Socket.IO clients treat " +
      "both as a transport close, and reconnect.",
    at: [
      ...["the server closes", "the server closes, with clients that have joined no namespace"].map((script) => ({
        script,
        node: ["a: (closed: 1005)", "b: (closed: 1005)"],
        roomcast: ["a: (closed: 1001 server shutting down)", "b: (closed: 1001 server shutting down)"],
      })),
      {
        script: "the server closes right after an event",
        node: ["a: (closed: 1005)"],
        roomcast: ["a: (closed: 1001 server shutting down)"],
      },
    ],
  },
  {
    name: "the order of keys in MessagePack",
    why:
      "Node writes the keys of a packet in the order of their assignment, the id of an ack first. Here the order is " +
      "the same in every packet; readers of a map ignore the order.",
    at: [
      {
        script: "the bytes of server packets",
        node: ["a: < bytes 84a2696405a47479706503a4646174619181a16190a36e7370a12f"],
        roomcast: ["a: < bytes 84a47479706503a4646174619181a16190a36e7370a12fa2696405"],
      },
    ],
  },
  {
    name: "incomplete MessagePack events and acks",
    why:
      "Node's parser only checks that data is a list, so events without a name or with a reserved one, and " +
      "unexpected acks, are ignored. Both servers close for most of them in Socket.IO's default format; here in " +
      "every format.",
    at: [
      "an empty list",
      "a name that is null",
      "a name that is bytes",
      "an answer without a number",
      "an event called disconnect",
    ].map((what) => ({
      script: `garbage: ${what}`,
      node: ["a: < 2 / [\"echo\",\"still here\"] {}"],
      roomcast: ["a: (closed: 1005)"],
    })),
  },
  {
    name: "a MessagePack CONNECT with null",
    why:
      "Clients in languages without an undefined value send null for a missing payload. Here it counts as missing; " +
      "Node's parser closes.",
    at: [
      {
        script: "garbage: a CONNECT with null",
        node: ["a: (closed: 1005)"],
        roomcast: ["a: < 0 /other {\"sid\":\"<socket id in /other of a>\"} {}"],
      },
    ],
  },
];

/** A file of the browser clients, whose response has a Vary header here */
function varied(script, { type = "javascript", coding = "" } = {}) {
  const told = `a:   200 cache-control: public, max-age=0; ${coding}content-type: application/${type}; charset=utf-8; etag: <etag>`;
  return { script, node: [told], roomcast: [`${told}; vary: Accept-Encoding`] };
}
