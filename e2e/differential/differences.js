// Where Roomcast differs from Node on purpose, and why. A difference that is not here fails the test, and so does one
// that is here and no longer occurs. `node` and `roomcast` are the lines of the record that only this server has.
//
// Where one carrier shows it in other lines than another, `carriers` says which are meant.
export const DIFFERENCES = [
  {
    name: "a WebSocket of a version that is not served",
    why:
      "Node accepts the WebSocket and then writes an HTTP answer into it. A refusal before the upgrade says the " +
      "same to a client, and breaks no proxy on the way.",
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
    name: "half of a surrogate pair",
    why:
      "JSON may name half of a pair, which no text in UTF-8 can hold. It becomes U+FFFD when it is read, as in every " +
      "decoder of UTF-8, so that handlers get a text and later clients do too.",
    at: [
      {
        script: "with a surrogate alone",
        node: ['a: < 42["echo","\\ud800"]'],
        roomcast: ['a: < 42["echo","\ufffd"]'],
      },
    ],
  },
  {
    name: "a body in many pieces",
    why:
      "Node keeps each chunk of a body as an object of its own until the last has come, so it refuses more than 10,000. " +
      "Here they are copied into one buffer, and cost the bytes they have, which are limited anyway.",
    at: [
      {
        script: "a body of 10,001 chunks",
        node: ["a: 400", "b: HTTP/1.1 413 Payload Too Large"],
        roomcast: ["a: 200", "b: HTTP/1.1 200 OK"],
      },
    ],
  },
  {
    name: "a volatile event right behind another",
    why:
      "Node drops it, since its transport counts as busy until the write of the one before has ended. What fits is " +
      "sent here: the client can take it.",
    at: [
      {
        script: "volatile, right behind another event",
        node: [],
        roomcast: ['a:   42["second",1]'],
      },
    ],
  },
  {
    name: "a WebSocket that asks for long-polling",
    why:
      "Node completes the handshake and closes the WebSocket at once. Such a request can carry no session, so its " +
      "handshake is refused, and the status says why.",
    at: [
      {
        script: "WebSocket with polling for a transport",
        node: ["a:   101", "a: (closed: 1005)"],
        roomcast: ["a:   400 content-type: text/html", "a:   Bad request"],
      },
    ],
  },
  {
    name: "base64 with letters that are not base64's",
    why:
      "Node's decoder passes over them and hands whatever is left to the application. Bytes that nobody sent are " +
      "worse than an error: the packet is refused as one that cannot be parsed.",
    at: [
      {
        script: "a payload with base64 with wrong letters",
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
    name: "base64 with wrong letters, over WebSocket",
    why: "The same as on long-polling, for clients that send bytes as text on every transport.",
    at: [
      {
        script: "base64 with wrong letters",
        node: ['a: < 451-["echo",{"_placeholder":true,"num":0}]', "a: < bytes "],
        roomcast: ["a: (closed: 1005)"],
      },
    ],
  },
  {
    name: "the reason in the answer to a close frame",
    why:
      "RFC 6455 section 5.5.1 asks for the status code to be echoed, and says nothing of the reason. A text that " +
      "a client made up need not be sent back.",
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
      "Node swaps the transport although the WebSocket has not proved to carry anything, and leaves the GET that " +
      "waits without an answer. The order of the protocol is kept instead: the WebSocket is closed and the " +
      "session stays where it was.",
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
    name: "the reason of a close that the protocol asks for, on long-polling",
    why:
      "When a client breaks a rule, Node's reason depends on the carrier: \"forced close\" on WebSocket and \"forced " +
      "server close\" on long-polling, whose transport closes a moment later. The reason is the same on every " +
      "carrier here, and it is the WebSocket's.",
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
        script: "an event of nothing, in a namespace",
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
        script: "a CONNECT_ERROR with nothing",
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
    name: "what comes before its namespace is joined",
    why:
      "Node makes its socket later than it reads the next packet, so an event on the heels of CONNECT closes the " +
      "connection, and two CONNECTs make two sockets of which one is never reached. Events wait for the answer " +
      "here, and the second CONNECT is the mistake that it is.",
    at: [
      {
        script: "an event in the namespace whose middleware still thinks",
        carriers: ["polling"],
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: [
          "a: < 40/guarded,{\"sid\":\"<socket id in /guarded of a>\"}",
          "a: < 42/guarded,[\"echo\",\"early\"]",
        ],
      },
      {
        script: "an event in the namespace whose middleware still thinks",
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
    name: "middlewares of a client that is gone",
    why:
      "Node asks the middlewares that are left although nobody is there to be let in. They are not asked here, " +
      "and what the first one waits for is given up.",
    at: [
      {
        script: "a client that goes away while a middleware thinks",
        node: ["server: a /guarded: second middleware"],
        roomcast: [],
      },
    ],
  },
  {
    name: "an event whose name is a number",
    why:
      "A name is text in this API, as it is in Node's types. A number is taken, and means the handler of that " +
      "text; when it is emitted again it is text.",
    at: [
      {
        script: "with a number for a name",
        node: ["a: < 42[1,2,3]"],
        roomcast: ["a: < 42[\"1\",2,3]"],
      },
      {
        script: "a number for a name",
        node: ["a: < 451-[1,{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 451-[\"1\",{\"_placeholder\":true,\"num\":0}]"],
      },
    ],
  },
  {
    name: "one attachment in several places",
    why:
      "Node copies the bytes for each place that names them, so a small packet can become gigabytes in the " +
      "application. An event may name no more bytes than came with it.",
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
    name: "arguments that are handed on unread",
    why:
      "Arguments that a handler takes whole and emits again stay as the client wrote them, without a parse in " +
      "between: an attachment that nothing names goes along, and a placeholder keeps the order of its keys and " +
      "whatever else it has. Clients read the same values from both.",
    at: [
      {
        script: "one that nothing names",
        node: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 452-[\"echo\",{\"_placeholder\":true,\"num\":0}]", "a: < bytes 02"],
      },
      {
        script: "one that nothing names, alone",
        node: ["a: < 42[\"echo\",\"x\"]"],
        roomcast: ["a: < 451-[\"echo\",\"x\"]", "a: < bytes 01"],
      },
      {
        script: "a placeholder with more keys",
        node: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0,\"x\":1}]"],
      },
      {
        script: "a key of another order",
        node: ["a: < 451-[\"echo\",{\"_placeholder\":true,\"num\":0}]"],
        roomcast: ["a: < 451-[\"echo\",{\"num\":0,\"_placeholder\":true}]"],
      },
    ],
  },
  {
    name: "base64 on WebSocket for those who ask for it",
    why:
      "Node writes bytes as text on every transport if the query has b64. The parameter is for browsers whose HTTP " +
      "requests carry no bytes, and long-polling has text alone in this revision; a WebSocket carries bytes for " +
      "every client, and all of a room can share one frame.",
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
    name: "an ack number that no double keeps",
    why:
      "JavaScript rounds it, and the client gets an answer under a number that it did not use. No client counts " +
      "that far; a number that cannot be echoed is not of the grammar.",
    at: [
      {
        script: "to the client, with a number beyond what doubles keep",
        node: ["a: < 4318446744073709552000[1]"],
        roomcast: ["a: (closed: 1005)"],
      },
    ],
  },
  {
    name: "a broadcast that asks somebody who goes away",
    why:
      "Node waits for the answer of a client that is gone until the time is over. Whoever goes away is not waited " +
      "for here, but reported beside the answers.",
    at: [
      {
        script: "of a broadcast to one that goes away",
        node: ["a: < 43900[{\"answers\":[],\"error\":\"operation has timed out\"}]"],
        roomcast: ["a: < 43900[{\"answers\":[],\"error\":null}]"],
      },
    ],
  },
  {
    name: "the room of a socket's own id is its address",
    why:
      "On Node it is a room like any other, which a socket can leave, so that events for its id no longer reach " +
      "it. Here the id finds the socket for as long as it is connected, and costs no room.",
    at: [
      {
        script: "the own room is left",
        node: ["b: < 437001[\"\"]"],
        roomcast: ["b: < 437001[\"own\"]", "b: < 42[\"for b\",1]"],
      },
    ],
  },
  {
    name: "a namespace that is left and joined at once",
    why:
      "Node ends the socket a moment after it reads the DISCONNECT, so a CONNECT right behind finds the namespace " +
      "still joined and closes the connection. Packets take effect in their order here.",
    at: [
      {
        script: "the client leaves and joins in one payload",
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: ["a: < 40{\"sid\":\"<socket id of a 2>\"}"],
      },
    ],
  },
  {
    name: "events that were under way when the server ended their socket",
    why:
      "A client cannot know yet that the server took it out of a namespace. Node closes its connection for such " +
      "an event, and its other namespaces with it; here the event is dropped and the connection stays.",
    at: [
      {
        script: "an event behind the end of its namespace",
        carriers: ["polling"],
        node: ["a: (closed: 400 {\"code\":1,\"message\":\"Session ID unknown\"})"],
        roomcast: ["a: (nothing comes)"],
      },
      {
        script: "an event behind the end of its namespace",
        carriers: ["websocket", "upgraded"],
        node: ["a: (closed: 1005)"],
        roomcast: ["a: (nothing comes)"],
      },
    ],
  },
  {
    name: "an answer of a socket that has left",
    why:
      "Node sends it although the client has left the namespace, where it can only be thrown away. Here the " +
      "handler is told that nobody gets it.",
    at: [
      {
        script: "answers of a handler that ends after its socket",
        node: ["a: < 431[1000]"],
        roomcast: [],
      },
    ],
  },
  {
    name: "an event with a DISCONNECT right behind it",
    why:
      "Node handles an event a moment after it reads it, and drops it if the client has left by then, so what was " +
      "sent before a DISCONNECT is lost if both come at once. Here whatever came before it is handled.",
    at: [
      {
        script: "an event with a DISCONNECT behind it in one payload",
        node: [],
        roomcast: ["a: < 431[1]"],
      },
    ],
  },
  {
    name: "packets without the payload that they need",
    why:
      "Node checks a payload only if there is one: an event without a name reaches no handler, and an ack without " +
      "a number or arguments answers nothing. Such a packet is as invalid as one with a wrong payload, for which " +
      "both close.",
    at: [
      {
        script: "an event of nothing",
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
        script: "an event of nothing",
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
        script: "an ack of nothing",
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
        script: "an ack of nothing",
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
      "JavaScript takes a space for the number 0, so Node reads an ack id there and answers what nobody asked. " +
      "JSON may begin with a space.",
    at: [
      {
        script: "a space before the list",
        node: ["a: < 430[]"],
        roomcast: ["a: < 42[\"echo\"]"],
      },
    ],
  },
  {
    name: "a placeholder whose number is a fraction",
    why:
      "Node finds nothing at such a place and hands the application an undefined value. It is refused like every " +
      "other number that names no attachment.",
    at: [
      {
        script: "a place that is a fraction",
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
        script: "a place that is a fraction",
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
    name: "a WebSocket where sessions may not move",
    why:
      "Node offers no upgrade but answers the probe of a client that tries one, and never lets it finish. Refusing " +
      "the handshake tells the client at once, and leaves no connection behind.",
    at: [
      {
        script: "no upgrades: a WebSocket that tries nevertheless",
        node: ["b: < 3probe", "b: (nothing comes)"],
        roomcast: ["b: (closed: 1005)"],
      },
    ],
  },
  {
    name: "no-transform where an event is not to be compressed",
    why:
      "The wish of the application that an answer stays as it is holds for the proxies on its way too, which RFC " +
      "9111 section 5.2.2.6 says by this word.",
    at: [
      {
        script: "an event that asks not to be compressed",
        node: ["a:   200 cache-control: no-store; content-type: text/plain; charset=UTF-8"],
        roomcast: ["a:   200 cache-control: no-store, no-transform; content-type: text/plain; charset=UTF-8"],
      },
    ],
  },
  {
    name: "browser clients that are not served",
    why:
      "Node takes the request for one of Engine.IO, which lacks a transport. Whoever expects the file is told where " +
      "it is to be had.",
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
      "The files are compressed for browsers that take it, so a cache has to keep them apart; without the header it " +
      "may hand compressed bytes to a browser that did not ask for them. A 304 has the headers of the 200, as RFC " +
      "9110 section 15.4.5 asks.",
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
      varied("by HEAD"),
      {
        script: "that the browser has already",
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
    name: "what the application is told of a missing transport",
    why: "JavaScript has a word for what is not there, which JSON leaves out. Here the key is there, and is null.",
    at: [
      {
        script: "a request is refused for no transport",
        node: ["server: refused: 0 Transport unknown {}"],
        roomcast: ["server: refused: 0 Transport unknown {\"transport\":null}"],
      },
    ],
  },
  {
    name: "what the application is told of its own refusal",
    why:
      "Node's event always says Forbidden, and has the application's text in the context alone. Here the message is " +
      "what the client was told, in the event as in the context.",
    at: [
      {
        script: "a request is refused for an application that does not want it",
        node: ["server: refused: 4 Forbidden {\"message\":\"not today\"}"],
        roomcast: ["server: refused: 4 not today {\"message\":\"not today\"}"],
      },
      {
        script: "a WebSocket is refused for an application that does not want it",
        node: ["server: refused: 4 Forbidden {\"message\":\"not today\"}"],
        roomcast: ["server: refused: 4 not today {\"message\":\"not today\"}"],
      },
      {
        script: "a request is refused for an application that does not say why",
        node: ["server: refused: 4 Forbidden {\"message\":\"\"}"],
        roomcast: ["server: refused: 4 Forbidden {\"message\":\"Forbidden\"}"],
      },
    ],
  },
  {
    name: "the revision in the report of one that is not spoken",
    why:
      "Node calls everything but 4 the number 3, whether or not the client named it. The application is told here " +
      "what the client wrote.",
    at: [
      {
        script: "a request is refused for a revision that is not spoken",
        node: ["server: refused: 5 Unsupported protocol version {\"protocol\":3}"],
        roomcast: ["server: refused: 5 Unsupported protocol version {\"protocol\":\"3\"}"],
      },
      {
        script: "a request is refused for no revision",
        node: ["server: refused: 5 Unsupported protocol version {\"protocol\":3}"],
        roomcast: ["server: refused: 5 Unsupported protocol version {\"protocol\":null}"],
      },
    ],
  },
  {
    name: "the close frames of a server that ends",
    why:
      "Node sends no code. RFC 6455 section 7.4.1 has 1001 for a server that goes down; clients of Socket.IO treat " +
      "both as a transport that closed, and come back.",
    at: [
      ...["the server closes", "the server closes, with clients that have joined no namespace"].map((script) => ({
        script,
        node: ["a: (closed: 1005)", "b: (closed: 1005)"],
        roomcast: ["a: (closed: 1001 server shutting down)", "b: (closed: 1001 server shutting down)"],
      })),
      {
        script: "the server closes behind an event",
        node: ["a: (closed: 1005)"],
        roomcast: ["a: (closed: 1001 server shutting down)"],
      },
    ],
  },
  {
    name: "the order of keys in MessagePack",
    why:
      "Node writes the keys of a packet in the order in which its code happens to set them, the id of an answer " +
      "first. The order is the same in every packet here; a map has none to its readers.",
    at: [
      {
        script: "the bytes of what the server sends",
        node: ["a: < bytes 84a2696405a47479706503a4646174619181a16190a36e7370a12f"],
        roomcast: ["a: < bytes 84a47479706503a4646174619181a16190a36e7370a12fa2696405"],
      },
    ],
  },
  {
    name: "MessagePack events and answers that are not whole",
    why:
      "The parser on Node looks only whether data is a list, so events of no name or a reserved one, and answers to " +
      "no question, vanish. Both servers close for most of them in Socket.IO's own form, and so they do here in " +
      "every form.",
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
      "Clients in languages without an undefined value write null for a payload that is not there. It is taken for " +
      "none; Node's parser closes.",
    at: [
      {
        script: "garbage: a CONNECT with null",
        node: ["a: (closed: 1005)"],
        roomcast: ["a: < 0 /other {\"sid\":\"<socket id in /other of a>\"} {}"],
      },
    ],
  },
];

/** A file of the browser clients, which says here that it may come compressed */
function varied(script, { type = "javascript", coding = "" } = {}) {
  const told = `a:   200 cache-control: public, max-age=0; ${coding}content-type: application/${type}; charset=utf-8; etag: <etag>`;
  return { script, node: [told], roomcast: [`${told}; vary: Accept-Encoding`] };
}
