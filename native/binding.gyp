{
  "targets": [
    {
      "target_name": "close_notify_native",
      "sources": [
        "src/addon.cc",
        "src/context.cc",
        "src/descriptor.cc",
        "src/engine.cc",
        "src/peer.cc",
        "src/session.cc",
        "src/witness.cc"
      ],
      "defines": [
        "NAPI_VERSION=8",
        "CLOSE_NOTIFY_NATIVE_VERSION=\"<!(node -p \"require('./package.json').version\")\""
      ],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "conditions": [
        [
          "OS=='linux'",
          {
            "ldflags": [
              "-Wl,-z,now",
              "-Wl,-z,nodelete",
              "-Wl,--version-script=<(module_root_dir)/src/exports.map"
            ]
          }
        ],
        [
          "OS=='mac'",
          {
            "xcode_settings": {
              "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
              "WARNING_CFLAGS": ["-Wall", "-Wextra", "-Werror"]
            }
          }
        ]
      ]
    }
  ]
}
