"""The page in the browser: portrait, speech and gesture in, a clip out; and ``/animate`` for programs.

    code = server.serve(Source(), Options(port=7860))        # http://127.0.0.1:7860 until Ctrl-C

============  =========================================================================
``jobs``      the queue: one clip at a time, to be stopped, left and found again
``bar``       one bar and the time left, from all stages
``studio``    check, estimate and make a clip, with the functions of the command line
``uploads``   what users send: a private folder, limits
``guard``     who may ask: names of this machine, password, size of a request
``page``      the layout in Gradio; ``actions`` what its controls do, ``panels`` its HTML,
              ``words`` its messages, ``files`` and ``tiles`` what it shows
``api``       ``/animate``
``server``    port, folder, threads, and the end; ``settings`` its options
============  =========================================================================

No other host is contacted. Nothing here imports torch before the page is up.
"""
