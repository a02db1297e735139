// `fanout PORT MODE`: uWebSockets with its built-in publish, for `cargo xtask compare`.
//
// It is in no package registry. With the sources of uWebSockets and uSockets in sibling folders, build it with:
//
//   cc -O3 -flto -DLIBUS_NO_SSL -I uSockets/src -c uSockets/src/*.c uSockets/src/eventing/*.c
//   c++ -O3 -flto -std=c++20 -DLIBUS_NO_SSL -DUWS_NO_ZLIB -I uSockets/src -I uWebSockets/src \
//       fanout.cpp *.o -o fanout

#include <App.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

struct Nothing {};
using Socket = uWS::WebSocket<false, true, Nothing>;

int main(int count, char **words) {
    const std::string_view mode = count == 3 ? words[2] : "";
    const bool broadcast = mode == "broadcast", echo = mode == "echo";
    if (!broadcast && !echo && mode != "room") {
        std::fprintf(stderr, "usage: fanout PORT broadcast|echo|room\n");
        return 2;
    }
    uWS::App app;
    uWS::App::WebSocketBehavior<Nothing> behavior;
    behavior.maxPayloadLength = 1 << 20;
    behavior.maxBackpressure = 1 << 20;
    behavior.open = [broadcast](Socket *socket) {
        if (broadcast) socket->subscribe("all");
    };
    behavior.message = [&app, broadcast, echo](Socket *socket, std::string_view text, uWS::OpCode code) {
        if (echo) {
            socket->send(text, code);
        } else if (broadcast) {
            // The application's publish, because the socket's publish excludes the sender.
            app.publish("all", text, code);
        } else if (text.starts_with('J')) {
            socket->subscribe(text.substr(1));
        } else if (const size_t space = text.find(' '); text.starts_with('R') && space != text.npos) {
            app.publish(text.substr(1, space - 1), text.substr(space + 1), code);
        }
    };
    app.ws<Nothing>("/*", std::move(behavior)).listen("127.0.0.1", std::atoi(words[1]), [](auto *socket) {
        if (socket) {
            std::puts("listening");
            std::fflush(stdout);
        }
    });
    app.run();
    return 1;
}
